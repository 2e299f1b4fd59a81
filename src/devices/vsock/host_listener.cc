#include "devices/vsock/host_listener.h"

#include <sys/socket.h>

#include <charconv>

#include "base/log.h"

namespace crosvm::devices::vsock {
namespace {

constexpr std::string_view kVerb = "CONNECT ";
// "CONNECT 4294967295\r\n", with room to spare.
constexpr size_t kMaxLine = 32;
// When the process has no descriptor left for a connection.
constexpr std::chrono::milliseconds kAcceptRetry{100};

}  // namespace

std::optional<uint32_t> ParseGreeting(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (!line.starts_with(kVerb)) return std::nullopt;
  line.remove_prefix(kVerb.size());
  uint32_t port = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), port);
  if (error != std::errc() || end != line.data() + line.size() || port == UINT32_MAX) {
    return std::nullopt;
  }
  return port;
}

HostListener::HostListener(event::EventLoop& loop, sys::UniqueFd listener, Connected connected)
    : loop_(loop), listener_(std::move(listener)), connected_(std::move(connected)) {
}

HostListener::~HostListener() = default;

Result<std::unique_ptr<HostListener>> HostListener::Create(event::EventLoop& loop,
                                                           sys::UniqueFd listener,
                                                           Connected connected) {
  std::unique_ptr<HostListener> self(
      new HostListener(loop, std::move(listener), std::move(connected)));
  self->watch_ = TRY(loop.AddWatch(self->listener_, event::Interest::kRead,
                                   [raw = self.get()](event::Ready) { raw->OnListener(); }));
  return self;
}

void HostListener::OnListener() {
  while (waiting_.size() < kMaxGreeting) {
    sys::UniqueFd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket.valid()) {
      if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR) return;
      LOG_WARN_EVERY(std::chrono::seconds(10), "accepting a connection: {}",
                     strerrordesc_np(errno));
      watch_.SetInterest(event::Interest::kNone);
      retry_ = loop_.AddTimer(kAcceptRetry, [this] { watch_.SetInterest(event::Interest::kRead); });
      return;
    }
    const Status greeted = Greet(std::move(socket));
    if (!greeted.has_value()) {
      LOG_WARN_EVERY(std::chrono::seconds(10), "{}", greeted.error().ToString());
    }
  }
  watch_.SetInterest(event::Interest::kNone);
}

Status HostListener::Greet(sys::UniqueFd socket) {
  const Place place = waiting_.emplace(waiting_.end());
  place->socket = std::move(socket);
  Result<event::Watch> watch = loop_.AddWatch(place->socket, event::Interest::kRead,
                                              [this, place](event::Ready) { OnReadable(place); });
  if (!watch.has_value()) {
    waiting_.erase(place);
    return std::unexpected(std::move(watch).error());
  }
  place->watch = std::move(*watch);
  place->timeout = loop_.AddTimer(kGreetingTimeout, [this, place] { Drop(place); });
  return {};
}

void HostListener::OnReadable(Place place) {
  // Byte by byte: what follows the line is the guest's.
  char byte = 0;
  while (true) {
    const ssize_t got = recv(place->socket.get(), &byte, 1, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return Drop(place);
    if (byte == '\n') break;
    place->line += byte;
    if (place->line.size() >= kMaxLine) return Drop(place);
  }
  const std::optional<uint32_t> port = ParseGreeting(place->line);
  place->watch.Reset();
  sys::UniqueFd socket = std::move(place->socket);
  Drop(place);
  if (port) connected_(*port, std::move(socket));
}

void HostListener::Drop(Place place) {
  waiting_.erase(place);
  watch_.SetInterest(event::Interest::kRead);
}

}  // namespace crosvm::devices::vsock

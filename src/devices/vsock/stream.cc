#include "devices/vsock/stream.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/check.h"

namespace crosvm::devices::vsock {
namespace {

// Parts of a packet that go to the socket straight from guest memory; the rest is copied.
constexpr size_t kMaxParts = 64;

ssize_t Send(const sys::UniqueFd& socket, std::span<iovec> parts) {
  const msghdr message{.msg_name = nullptr,
                       .msg_namelen = 0,
                       .msg_iov = parts.data(),
                       .msg_iovlen = parts.size(),
                       .msg_control = nullptr,
                       .msg_controllen = 0,
                       .msg_flags = 0};
  return sys::RetryEintr(
      [&] { return sendmsg(socket.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT); });
}

}  // namespace

Stream::Stream(event::EventLoop& loop, Ports ports, State state)
    : loop_(loop), ports_(ports), state_(state) {
}

Status Stream::Attach(sys::UniqueFd socket, std::function<void(event::Ready)> ready) {
  CHECK(!socket_.valid());
  socket_ = std::move(socket);
  watch_ = TRY(loop_.AddWatch(socket_, event::Interest::kNone, std::move(ready)));
  return {};
}

bool Stream::Greet() {
  const std::string line = fmt::format("OK {}\n", ports_.host);
  const ssize_t sent = send(socket_.get(), line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  return sent == static_cast<ssize_t>(line.size());
}

Stream::Verdict Stream::TakeIn(std::span<const memory::GuestSlice> payload, uint32_t bytes) {
  if ((heard_ & VIRTIO_VSOCK_SHUTDOWN_SEND) != 0 || !credit_.TakeIn(bytes)) {
    return Verdict::kReset;
  }
  if (write_ended_) {
    // The guest has been told, or is about to be; what crossed that is lost.
    AfterForward(bytes);
    return Verdict::kFine;
  }
  size_t sent = 0;
  if (waiting_ == 0 && payload.size() <= kMaxParts) {
    std::array<iovec, kMaxParts> parts;
    for (size_t i = 0; i < payload.size(); ++i) parts[i] = payload[i].ToIovec();
    const ssize_t got = Send(socket_, std::span(parts).first(payload.size()));
    if (got < 0 && errno != EAGAIN) {
      HostIsGone();
      AfterForward(bytes);
      return Verdict::kFine;
    }
    sent = got < 0 ? 0 : static_cast<size_t>(got);
  }
  AfterForward(sent);
  if (sent < bytes) Store(payload, sent);
  return Verdict::kFine;
}

void Stream::Store(std::span<const memory::GuestSlice> payload, size_t skip) {
  if (ring_ == nullptr) ring_ = std::make_unique_for_overwrite<uint8_t[]>(kWindow);
  for (const memory::GuestSlice& slice : payload) {
    size_t offset = std::min(skip, slice.size());
    skip -= offset;
    while (offset < slice.size()) {
      const uint32_t tail = (head_ + waiting_) % kWindow;
      const uint32_t room = std::min(kWindow - tail, kWindow - waiting_);
      // The credit has the same size as the ring.
      CHECK(room != 0);
      const size_t copied = slice.Sub(offset).CopyTo({ring_.get() + tail, room});
      offset += copied;
      waiting_ += static_cast<uint32_t>(copied);
    }
  }
}

void Stream::Flush() {
  while (waiting_ != 0 && !write_ended_) {
    const uint32_t first = std::min(waiting_, kWindow - head_);
    std::array<iovec, 2> parts = {iovec{ring_.get() + head_, first},
                                  iovec{ring_.get(), waiting_ - first}};
    const ssize_t got = Send(socket_, std::span(parts).first(waiting_ > first ? 2 : 1));
    if (got < 0 && errno == EAGAIN) return;
    if (got < 0) {
      HostIsGone();
      break;
    }
    head_ = (head_ + static_cast<uint32_t>(got)) % kWindow;
    waiting_ -= static_cast<uint32_t>(got);
    AfterForward(static_cast<size_t>(got));
  }
  if (waiting_ != 0) return;
  ring_.reset();
  head_ = 0;
  if ((heard_ & VIRTIO_VSOCK_SHUTDOWN_SEND) != 0 && !std::exchange(half_closed_, true)) {
    (void)shutdown(socket_.get(), SHUT_WR);
  }
}

void Stream::AfterForward(size_t bytes) {
  credit_.Forward(static_cast<uint32_t>(bytes));
  if (credit_.news_due() && state_ == State::kEstablished) Note(kCredit);
}

void Stream::HostIsGone() {
  write_ended_ = true;
  shutdown_ |= VIRTIO_VSOCK_SHUTDOWN_RCV;
  if (read_ended_) shutdown_ |= VIRTIO_VSOCK_SHUTDOWN_SEND;
  credit_.Forward(std::exchange(waiting_, 0));
}

void Stream::HearShutdown(uint32_t flags) {
  heard_ |= flags & kShutdownBoth;
  if ((heard_ & VIRTIO_VSOCK_SHUTDOWN_RCV) != 0) {
    readable_ = false;
    (void)shutdown(socket_.get(), SHUT_RD);
  }
  Flush();
}

bool Stream::wants_to_read() const {
  return state_ == State::kEstablished && !read_ended_ && (heard_ & VIRTIO_VSOCK_SHUTDOWN_RCV) == 0;
}

size_t Stream::ReadInto(std::span<const iovec> buffers) {
  // What is read into no room looks like the end.
  if (buffers.empty()) return 0;
  const ssize_t got = sys::RetryEintr(
      [&] { return readv(socket_.get(), buffers.data(), static_cast<int>(buffers.size())); });
  if (got > 0) return static_cast<size_t>(got);
  readable_ = false;
  if (got < 0 && errno == EAGAIN) return 0;
  // The end, or (ECONNRESET) the peer is gone with bytes of ours unread.
  read_ended_ = true;
  shutdown_ |= VIRTIO_VSOCK_SHUTDOWN_SEND;
  pollfd state{.fd = socket_.get(), .events = 0, .revents = 0};
  const bool gone = got < 0 || (poll(&state, 1, 0) > 0 && (state.revents & POLLHUP) != 0);
  if (gone) {
    write_ended_ = true;
    credit_.Forward(std::exchange(waiting_, 0));
    shutdown_ = kShutdownBoth;
  }
  return 0;
}

uint8_t Stream::TakeNotice() {
  const uint8_t lowest = notices_ & static_cast<uint8_t>(-notices_);
  notices_ = static_cast<uint8_t>(notices_ & ~lowest);
  return lowest;
}

uint32_t Stream::TakeShutdown() {
  if (shutdown_due() == 0) return 0;
  told_ = shutdown_;
  return told_;
}

void Stream::Close() {
  state_ = State::kClosed;
  watch_.Reset();
  socket_.Reset();
}

void Stream::UpdateInterest(bool listening) {
  if (!watch_.active()) return;
  const bool read = listening && wants_to_read() && credit_.peer_free() != 0;
  const bool write = waiting_ != 0 && !write_ended_;
  const auto wanted = static_cast<event::Interest>((read ? 1 : 0) | (write ? 2 : 0));
  if (wanted == interest_) return;
  interest_ = wanted;
  watch_.SetInterest(wanted);
}

}  // namespace crosvm::devices::vsock

#include "devices/slirp/dns_relay.h"

#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"

namespace crosvm::devices::slirp {
namespace {

Result<sys::UniqueFd> ConnectTo(const config::IpAddress& address, uint16_t port) {
  sockaddr_storage storage{};
  socklen_t length = 0;
  // SAFETY: sockaddr_storage may be used as any of these (POSIX, <sys/socket.h>).
  if (address.v6) {
    auto* const to = reinterpret_cast<sockaddr_in6*>(&storage);
    to->sin6_family = AF_INET6;
    to->sin6_port = htons(port);
    memcpy(&to->sin6_addr, address.bytes.data(), sizeof(to->sin6_addr));
    length = sizeof(*to);
  } else {
    auto* const to = reinterpret_cast<sockaddr_in*>(&storage);
    to->sin_family = AF_INET;
    to->sin_port = htons(port);
    memcpy(&to->sin_addr, address.bytes.data(), sizeof(to->sin_addr));
    length = sizeof(*to);
  }
  sys::UniqueFd fd(socket(storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return FailErrno("a socket for the resolver");
  // SAFETY: as above.
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0)
    return FailErrno("connecting to the resolver {}", address.ToString());
  return fd;
}

}  // namespace

struct DnsRelay::Pending {
  // Of the guest's packet, what the reply needs; its spans are empty.
  Packet from;
  DnsQuery query;
  uint16_t id = 0;
  size_t tries = 0;
  // The socket outlives its watch.
  sys::UniqueFd socket;
  event::Watch watch;
  event::Timer timer;
};

DnsRelay::DnsRelay(event::EventLoop& loop, Filter& filter, std::vector<config::IpAddress> resolvers,
                   Output output, uint16_t port)
    : loop_(loop),
      filter_(filter),
      resolvers_(std::move(resolvers)),
      output_(std::move(output)),
      port_(port) {
}

DnsRelay::~DnsRelay() = default;

void DnsRelay::Ask(const Packet& packet) {
  std::optional<DnsQuery> query = ParseDnsQuery(packet.payload);
  if (!query) return;
  Packet from = packet;
  from.network = from.payload = {};
  auto pending = std::make_unique<Pending>();
  pending->from = from;
  pending->query = std::move(*query);
  const bool allowed = filter_.AllowsName(pending->query.name) &&
                       (!filter_.restricted() || pending->query.AsksForAddress());
  if (!allowed || resolvers_.empty()) {
    Reply(*pending, MakeDnsError(pending->query, allowed ? kDnsServerFailure : kDnsRefused));
    return;
  }
  // The guest asks again when it hears nothing.
  if (pending_.size() >= kMaxPending) return;
  if (getrandom(&pending->id, sizeof(pending->id), 0) != sizeof(pending->id)) return;
  pending_.push_back(std::move(pending));
  Send(*pending_.back());
}

void DnsRelay::Send(Pending& pending) {
  const config::IpAddress& resolver = resolvers_[pending.tries % resolvers_.size()];
  pending.watch.Reset();
  pending.timer = loop_.AddTimer(kPatience, [this, &pending] { OnTimeout(pending); });
  Result<sys::UniqueFd> socket = ConnectTo(resolver, port_);
  if (!socket.has_value()) {
    LOG_DEBUG("{}", socket.error().ToString());
    return;
  }
  pending.socket = std::move(*socket);
  Result<event::Watch> watch =
      loop_.AddWatch(pending.socket, event::Interest::kRead,
                     [this, &pending](event::Ready) { OnAnswer(pending); });
  if (!watch.has_value()) return;
  pending.watch = std::move(*watch);
  const std::vector<uint8_t> message = MakeDnsQuery(pending.query, pending.id);
  if (send(pending.socket.get(), message.data(), message.size(), MSG_NOSIGNAL) < 0)
    LOG_DEBUG("asking the resolver {}: {}", resolver.ToString(), strerrordesc_np(errno));
}

void DnsRelay::OnAnswer(Pending& pending) {
  std::array<uint8_t, kMaxDnsBytes> buffer{};
  const ssize_t got = recv(pending.socket.get(), buffer.data(), buffer.size(), 0);
  if (got < 0) {
    // Nobody is there: no need to wait for the time to run out.
    if (errno != EAGAIN && errno != EINTR) OnTimeout(pending);
    return;
  }
  const std::span<uint8_t> message = std::span(buffer).first(static_cast<size_t>(got));
  const std::optional<DnsAnswer> answer = ParseDnsAnswer(message, pending.query);
  if (!answer || answer->id != pending.id) return;
  for (const DnsAddress& address : answer->addresses) {
    filter_.Pin(pending.query.name, address.address, std::chrono::seconds(address.ttl),
                loop_.Now());
  }
  message[0] = static_cast<uint8_t>(pending.query.id >> 8);
  message[1] = static_cast<uint8_t>(pending.query.id & 0xff);
  Reply(pending, message);
  Remove(pending);
}

void DnsRelay::OnTimeout(Pending& pending) {
  if (++pending.tries < 2 * resolvers_.size()) {
    Send(pending);
    return;
  }
  Reply(pending, MakeDnsError(pending.query, kDnsServerFailure));
  Remove(pending);
}

void DnsRelay::Reply(const Pending& pending, std::span<const uint8_t> message) {
  output_(MakeUdpReply(pending.from, message));
}

void DnsRelay::Remove(const Pending& pending) {
  const auto found = std::find_if(pending_.begin(), pending_.end(),
                                  [&](const auto& each) { return each.get() == &pending; });
  // Its callbacks may be running; a loop keeps them until they return.
  if (found != pending_.end()) pending_.erase(found);
}

}  // namespace crosvm::devices::slirp

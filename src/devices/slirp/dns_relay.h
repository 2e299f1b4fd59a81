// Asks the host's resolvers what the guest asks the name server of its network, and tells the
// filter which addresses the allowed names have. On the loop of the slirp process.
//
// The guest's question alone is passed on, in a message of our own with an id and a port of ours.
// At most kMaxPending are open at a time, each with one socket.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "config/net_user.h"
#include "devices/slirp/dns_message.h"
#include "devices/slirp/filter.h"
#include "devices/slirp/packet.h"
#include "event/event_loop.h"
#include "sys/fd.h"

namespace crosvm::devices::slirp {

class DnsRelay {
 public:
  static constexpr size_t kMaxPending = 64;
  // For one resolver; then the next is asked, twice each.
  static constexpr std::chrono::milliseconds kPatience{2000};

  // A frame for the guest.
  using Output = std::function<void(std::vector<uint8_t> frame)>;

  // `loop` and `filter` outlive the relay. `port` is the resolvers'.
  DnsRelay(event::EventLoop& loop, Filter& filter, std::vector<config::IpAddress> resolvers,
           Output output, uint16_t port = kDnsPort);
  ~DnsRelay();

  // A datagram of the guest to the name server.
  void Ask(const Packet& packet);
  size_t pending() const { return pending_.size(); }

 private:
  struct Pending;

  void Send(Pending& pending);
  void OnAnswer(Pending& pending);
  void OnTimeout(Pending& pending);
  void Reply(const Pending& pending, std::span<const uint8_t> message);
  void Remove(const Pending& pending);

  event::EventLoop& loop_;
  Filter& filter_;
  const std::vector<config::IpAddress> resolvers_;
  const Output output_;
  const uint16_t port_;
  std::vector<std::unique_ptr<Pending>> pending_;
};

}  // namespace crosvm::devices::slirp

// Decides which frames of the guest reach libslirp. Pure but for the clock that callers pass; on
// the loop of the slirp process.
//
// TCP is judged by the segment that opens a connection: libslirp makes a connection for no other,
// so what belongs to none is answered by a reset. Every datagram and echo request is judged.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "config/net_user.h"
#include "devices/slirp/packet.h"

namespace crosvm::devices::slirp {

// The guest's network: what libslirp is configured with.
inline constexpr std::array<uint8_t, 4> kNetwork = {10, 0, 2, 0};
inline constexpr std::array<uint8_t, 4> kNetmask = {255, 255, 255, 0};
inline constexpr std::array<uint8_t, 4> kGateway = {10, 0, 2, 2};
inline constexpr std::array<uint8_t, 4> kNameServer = {10, 0, 2, 3};
inline constexpr std::array<uint8_t, 4> kFirstGuest = {10, 0, 2, 15};
inline constexpr std::array<uint8_t, 16> kNetwork6 = {0xfd, 0};  // /64
inline constexpr std::array<uint8_t, 16> kGateway6 = {0xfd, 0, 0, 0, 0, 0, 0, 0,
                                                      0,    0, 0, 0, 0, 0, 0, 2};
inline constexpr std::array<uint8_t, 16> kNameServer6 = {0xfd, 0, 0, 0, 0, 0, 0, 0,
                                                         0,    0, 0, 0, 0, 0, 0, 3};
inline constexpr uint16_t kDnsPort = 53;

enum class Verdict : uint8_t {
  kPass,
  kDrop,
  kRefuse,  // drop, and tell the guest
  kDns,     // for the DNS relay
};

struct FilterOptions {
  bool restricted = false;  // only what `allow` names
  std::vector<config::AllowedHost> allow;
  bool host_loopback = false;
};

// Loopback, link-local, multicast and unspecified addresses, those at which clouds serve metadata,
// and addresses that have one of these within.
bool IsClosed(const IpAddress& address);

class Filter {
 public:
  using Clock = std::chrono::steady_clock;

  static constexpr size_t kMaxPins = 1024;
  static constexpr size_t kMaxFlows = 256;
  // How long an answer of the relay opens its addresses, at least; a connection that was opened in
  // time lives on.
  static constexpr std::chrono::minutes kShortestPin{10};
  static constexpr std::chrono::hours kLongestPin{24};
  // How long the guest may answer a datagram that a forward brought.
  static constexpr std::chrono::minutes kFlowTime{4};

  explicit Filter(FilterOptions options);

  Verdict Judge(const Packet& packet, Clock::time_point now);
  // A datagram of the host's side on its way to the guest: its sender may be answered.
  void NoteDatagram(const Packet& to_guest, Clock::time_point now);

  bool restricted() const { return options_.restricted; }
  // Whether the relay may ask for this name (lower case, no dot at the end).
  bool AllowsName(std::string_view name) const;
  // An answer for an allowed name: opens the address for the ports that the options give that name.
  void Pin(std::string_view name, const IpAddress& address, std::chrono::seconds ttl,
           Clock::time_point now);

  size_t pins() const { return pins_.size(); }
  size_t flows() const { return flows_.size(); }

 private:
  using Place = std::pair<IpAddress, uint16_t>;

  // Where libslirp would connect to; false for an address of the guest's own network that is
  // nobody.
  bool Reaches(const IpAddress& destination, IpAddress& reached, bool& through_gateway) const;
  bool Allowed(const IpAddress& reached, uint16_t port, Clock::time_point now);
  bool IsPinned(const IpAddress& reached, uint16_t port, Clock::time_point now);

  const FilterOptions options_;
  std::map<Place, Clock::time_point> pins_;                     // until when
  std::map<std::pair<Place, Place>, Clock::time_point> flows_;  // (guest, peer): until when
};

}  // namespace crosvm::devices::slirp

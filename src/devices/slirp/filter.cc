#include "devices/slirp/filter.h"

#include <algorithm>

namespace crosvm::devices::slirp {
namespace {

bool HasPrefix(const IpAddress& address, std::initializer_list<uint8_t> prefix) {
  return std::equal(prefix.begin(), prefix.end(), address.bytes.begin());
}

bool IsV4(const IpAddress& address, const std::array<uint8_t, 4>& other) {
  return !address.v6 && std::equal(other.begin(), other.end(), address.bytes.begin());
}

bool IsV6(const IpAddress& address, const std::array<uint8_t, 16>& other) {
  return address.v6 && address.bytes == other;
}

bool InNetwork(const IpAddress& address) {
  if (address.v6)
    return std::equal(kNetwork6.begin(), kNetwork6.begin() + 8, address.bytes.begin());
  for (size_t i = 0; i < kNetmask.size(); ++i) {
    if ((address.bytes[i] & kNetmask[i]) != kNetwork[i]) return false;
  }
  return true;
}

bool IsClosedV4(const IpAddress& address) {
  const uint8_t first = address.bytes[0];
  // This network, loopback, multicast and what is beyond (RFC 6890).
  if (first == 0 || first == 127 || first >= 224) return true;
  if (HasPrefix(address, {169, 254})) return true;
  // Metadata of clouds that have it elsewhere.
  return IsV4(address, {100, 100, 100, 200}) || IsV4(address, {168, 63, 129, 16}) ||
         IsV4(address, {192, 0, 0, 192});
}

bool IsClosedV6(const IpAddress& address) {
  const auto embedded = [&](size_t at) {
    IpAddress v4;
    std::copy_n(address.bytes.begin() + static_cast<ptrdiff_t>(at), 4, v4.bytes.begin());
    return IsClosedV4(v4) || InNetwork(v4);
  };
  const bool low = std::all_of(address.bytes.begin(), address.bytes.begin() + 10,
                               [](uint8_t byte) { return byte == 0; });
  // Unspecified, loopback, IPv4-compatible and IPv4-mapped: a socket would speak IPv4 to the last.
  if (low) return true;
  if (HasPrefix(address, {0, 0x64, 0xff, 0x9b})) return embedded(12);  // NAT64 (RFC 6052)
  if (HasPrefix(address, {0x20, 0x02})) return embedded(2);            // 6to4 (RFC 3056)
  const uint8_t first = address.bytes[0];
  const uint8_t second = address.bytes[1];
  if (first == 0xff) return true;                          // multicast
  if (first == 0xfe && (second & 0x80) != 0) return true;  // link-local, site-local
  constexpr std::array<uint8_t, 16> kMetadata6 = {0xfd, 0, 0x0e, 0xc2, 0, 0, 0,    0,
                                                  0,    0, 0,    0,    0, 0, 0x02, 0x54};
  return address.bytes == kMetadata6;
}

IpAddress V6(const std::array<uint8_t, 16>& bytes) {
  return IpAddress{.v6 = true, .bytes = bytes};
}

const IpAddress kLoopback = IpAddress::V4({127, 0, 0, 1});
constexpr std::array<uint8_t, 16> kLoopback6 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};

bool IsDhcp(const Packet& packet) {
  constexpr uint16_t kServer = 67;
  constexpr uint16_t kClient = 68;
  return !packet.destination.v6 && packet.source_port == kClient &&
         packet.destination_port == kServer &&
         (IsV4(packet.destination, {255, 255, 255, 255}) || IsV4(packet.destination, kGateway));
}

bool IsDhcpv6(const Packet& packet) {
  constexpr uint16_t kServer = 547;
  constexpr std::array<uint8_t, 16> kAllServers = {0xff, 2, 0, 0, 0, 0, 0, 0,
                                                   0,    0, 0, 0, 0, 1, 0, 2};
  return packet.destination_port == kServer && IsV6(packet.destination, kAllServers);
}

// A guest has addresses of its network, or none yet.
bool IsGuest(const IpAddress& source) {
  if (source.v6) return InNetwork(source) || (source.bytes[0] == 0xfe && source.bytes[1] == 0x80);
  return InNetwork(source) && !IsV4(source, kGateway) && !IsV4(source, kNameServer);
}

FilterOptions Normalised(FilterOptions options) {
  for (config::AllowedHost& host : options.allow) {
    if (!host.address) continue;
    // What the gateway's address reaches.
    if (IsV4(*host.address, kGateway)) host.address = kLoopback;
    if (IsV6(*host.address, kGateway6)) host.address = V6(kLoopback6);
  }
  if (options.host_loopback && options.restricted) {
    options.allow.push_back({.name = {}, .address = kLoopback, .port = 0});
    options.allow.push_back({.name = {}, .address = V6(kLoopback6), .port = 0});
  }
  return options;
}

}  // namespace

bool IsClosed(const IpAddress& address) {
  return address.v6 ? IsClosedV6(address) : IsClosedV4(address);
}

Filter::Filter(FilterOptions options) : options_(Normalised(std::move(options))) {
}

bool Filter::Reaches(const IpAddress& destination, IpAddress& reached,
                     bool& through_gateway) const {
  reached = destination;
  through_gateway = IsV4(destination, kGateway) || IsV6(destination, kGateway6);
  if (through_gateway) {
    reached = destination.v6 ? V6(kLoopback6) : kLoopback;
    return true;
  }
  return !InNetwork(destination);
}

Verdict Filter::Judge(const Packet& packet, Clock::time_point now) {
  if (packet.protocol == Protocol::kArp || packet.protocol == Protocol::kNeighbour)
    return Verdict::kPass;
  if (packet.protocol == Protocol::kUdp && (IsDhcp(packet) || IsDhcpv6(packet)))
    return Verdict::kPass;
  if (!IsGuest(packet.source)) return Verdict::kDrop;
  const bool name_server =
      IsV4(packet.destination, kNameServer) || IsV6(packet.destination, kNameServer6);
  if (name_server && packet.protocol == Protocol::kUdp && packet.destination_port == kDnsPort)
    return Verdict::kDns;
  IpAddress reached;
  bool through_gateway = false;
  // libslirp answers for these two itself.
  const bool ours =
      name_server || IsV4(packet.destination, kGateway) || IsV6(packet.destination, kGateway6);
  if (packet.protocol == Protocol::kEcho && ours) return Verdict::kPass;
  if (packet.protocol == Protocol::kTcp && !packet.opens) return Verdict::kPass;
  if (packet.protocol == Protocol::kUdp) {
    const auto flow = flows_.find(
        {{packet.source, packet.source_port}, {packet.destination, packet.destination_port}});
    if (flow != flows_.end() && flow->second > now) {
      flow->second = now + kFlowTime;
      return Verdict::kPass;
    }
  }
  if (name_server) return Verdict::kRefuse;
  if (!Reaches(packet.destination, reached, through_gateway)) return Verdict::kDrop;
  // The wire's own loopback and group addresses are nobody's, whatever is allowed: libslirp would
  // connect to them as they are.
  if (!through_gateway && (reached.v6 ? V6(kLoopback6) == reached : reached.bytes[0] == 127))
    return Verdict::kDrop;
  if (options_.restricted)
    return Allowed(reached, packet.destination_port, now) ? Verdict::kPass : Verdict::kRefuse;
  if (through_gateway) return options_.host_loopback ? Verdict::kPass : Verdict::kRefuse;
  if (!IsClosed(reached)) return Verdict::kPass;
  // Services that announce themselves to groups do so all the time.
  const bool group = reached.v6 ? reached.bytes[0] == 0xff : reached.bytes[0] >= 224;
  return group ? Verdict::kDrop : Verdict::kRefuse;
}

bool Filter::Allowed(const IpAddress& reached, uint16_t port, Clock::time_point now) {
  for (const config::AllowedHost& host : options_.allow) {
    if (host.address == reached && (host.port == 0 || host.port == port)) return true;
  }
  return IsPinned(reached, port, now) || IsPinned(reached, 0, now);
}

bool Filter::IsPinned(const IpAddress& reached, uint16_t port, Clock::time_point now) {
  const auto pin = pins_.find({reached, port});
  return pin != pins_.end() && pin->second > now;
}

void Filter::NoteDatagram(const Packet& to_guest, Clock::time_point now) {
  if (to_guest.protocol != Protocol::kUdp) return;
  if (flows_.size() >= kMaxFlows) {
    flows_.erase(std::min_element(flows_.begin(), flows_.end(), [](const auto& a, const auto& b) {
      return a.second < b.second;
    }));
  }
  flows_[{{to_guest.destination, to_guest.destination_port},
          {to_guest.source, to_guest.source_port}}] = now + kFlowTime;
}

bool Filter::AllowsName(std::string_view name) const {
  if (!options_.restricted) return true;
  return std::any_of(options_.allow.begin(), options_.allow.end(),
                     [&](const config::AllowedHost& host) { return host.name == name; });
}

void Filter::Pin(std::string_view name, const IpAddress& address, std::chrono::seconds ttl,
                 Clock::time_point now) {
  // A name does not open what only its own address opens, nor the guest's own network.
  if (!options_.restricted || name.empty() || IsClosed(address) || InNetwork(address)) return;
  const std::chrono::seconds time =
      std::clamp<std::chrono::seconds>(ttl, kShortestPin, kLongestPin);
  for (const config::AllowedHost& host : options_.allow) {
    if (host.name != name) continue;
    const Place place{address, host.port};
    if (pins_.size() >= kMaxPins && !pins_.contains(place)) {
      pins_.erase(std::min_element(pins_.begin(), pins_.end(), [](const auto& a, const auto& b) {
        return a.second < b.second;
      }));
    }
    Clock::time_point& until = pins_[place];
    until = std::max(until, now + time);
  }
}

}  // namespace crosvm::devices::slirp

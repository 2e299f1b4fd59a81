// Values of `--net user`: port forwards, and the destinations that `allow=` opens. Plain data,
// checked when parsed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "config/values.h"

namespace crosvm::config {

// `tcp|udp:[HOST-ADDRESS]:PORT-[GUEST-ADDRESS]:PORT`. Without addresses: the host's loopback, and
// the address that the guest gets by DHCP.
struct HostForward {
  bool udp = false;
  Ipv4Address host{{127, 0, 0, 1}};
  uint16_t host_port = 0;
  Ipv4Address guest{{10, 0, 2, 15}};
  uint16_t guest_port = 0;

  static Result<HostForward> Parse(std::string_view text);
  std::string ToString() const;
  bool operator==(const HostForward&) const = default;
};

// An address of either family, and its text form.
struct IpAddress {
  bool v6 = false;
  std::array<uint8_t, 16> bytes{};  // of IPv4 the first four

  static Result<IpAddress> Parse(std::string_view text);
  std::string ToString() const;
  static IpAddress V4(std::array<uint8_t, 4> bytes);
  auto operator<=>(const IpAddress&) const = default;
};

// `HOST[:PORT]`: a name, an IPv4 address, or an IPv6 address (in brackets when a port follows).
// Names are in lower case, without a dot at the end.
struct AllowedHost {
  std::string name;                  // empty: `address`
  std::optional<IpAddress> address;  // empty: `name`
  uint16_t port = 0;                 // 0: every port, and echo requests

  static Result<AllowedHost> Parse(std::string_view text);
  std::string ToString() const;
  bool operator==(const AllowedHost&) const = default;
};

}  // namespace crosvm::config

// A network interface: `--net`, `--tap-fd`, and the triple --host_ip, --netmask, --mac.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/describe.h"
#include "base/result.h"
#include "config/net_user.h"
#include "config/values.h"

namespace crosvm::config {

// Exactly one of: `user`, `tap_name`, `tap_fd`, or both `host_ip` and `netmask` (a new tap is
// made).
struct NetOptions {
  bool user = false;
  std::string tap_name;
  std::optional<int32_t> tap_fd;
  std::optional<Ipv4Address> host_ip;
  std::optional<Ipv4Address> netmask;
  std::optional<MacAddress> host_mac;
  std::optional<MacAddress> mac;
  uint16_t vq_pairs = 1;
  bool vhost_net = false;
  // Of `user` alone.
  std::vector<HostForward> hostfwd;
  std::optional<IpAddress> dns;
  bool restrict_all = false;
  std::vector<AllowedHost> allow;
  bool host_loopback = false;

  bool operator==(const NetOptions&) const = default;
  static constexpr auto Describe() {
    return Fields(
        Field("user", &NetOptions::user, "user-mode network: needs no privilege"),
        Field("tap-name", &NetOptions::tap_name, "an existing tap interface of the host")
            .MaxLength(15),
        Field("tap-fd", &NetOptions::tap_fd, "an open tap descriptor that crosvm inherits")
            .Range(3, INT32_MAX),
        Field("host-ip", &NetOptions::host_ip,
              "the host's address on a new tap (needs CAP_NET_ADMIN)"),
        Field("netmask", &NetOptions::netmask, "the netmask of host-ip"),
        Field("host-mac", &NetOptions::host_mac, "the host's hardware address on a new tap"),
        Field("mac", &NetOptions::mac, "the guest's address; chosen when not given"),
        Field("vq-pairs", &NetOptions::vq_pairs, "pairs of queues, 1 to 16").Range(1, 16),
        Field("vhost-net", &NetOptions::vhost_net, "let the host's kernel move the packets"),
        Field("hostfwd", &NetOptions::hostfwd,
              "with user: tcp|udp:[ADDRESS]:PORT-[GUEST]:PORT reaches the guest; may be repeated"),
        Field("dns", &NetOptions::dns, "with user: the resolver to ask instead of the host's"),
        Field("restrict", &NetOptions::restrict_all,
              "with user: nothing is reachable but what allow names"),
        Field("allow", &NetOptions::allow,
              "with user: HOST[:PORT] that is reachable, and nothing else; may be repeated"),
        Field("host-loopback", &NetOptions::host_loopback,
              "with user: the gateway's address is the host's 127.0.0.1"));
  }
};

// What the fields must be together. The error names the key.
Status CheckNet(const NetOptions& net);

}  // namespace crosvm::config

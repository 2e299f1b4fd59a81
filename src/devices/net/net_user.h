// The user-mode network's side in the VMM: what `--net user` says, and the program that serves it.
// The device itself is made by that program (devices/slirp), which alone is linked with libslirp.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/describe.h"
#include "config/net_user.h"
#include "devices/module/module.h"
#include "devices/net/rx_filter.h"

namespace crosvm::devices::net {

// The program, beside this one.
inline constexpr std::string_view kUserProgram = "crosvm-slirp";
inline constexpr std::string_view kUserModuleName = "net-user";

// What travels from Prepare to Create.
struct UserStart {
  Mac mac{};
  std::vector<config::HostForward> forwards;
  std::vector<config::IpAddress> resolvers;  // that the DNS relay asks, in this order
  bool restricted = false;                   // only `allow` is reachable
  std::vector<config::AllowedHost> allow;
  bool host_loopback = false;

  static constexpr auto Describe() {
    return Fields(Field("mac", &UserStart::mac), Field("forwards", &UserStart::forwards),
                  Field("resolvers", &UserStart::resolvers),
                  Field("restricted", &UserStart::restricted), Field("allow", &UserStart::allow),
                  Field("host_loopback", &UserStart::host_loopback));
  }
};

// Parses the option and reads the host's resolvers.
Result<PreparedDevice> PrepareUser(std::string_view text);

// The `nameserver` lines of a resolv.conf(5), three at most, as the C library takes them.
std::vector<config::IpAddress> ParseResolvers(std::string_view text);

// The entry in this program's list: prepares, and names the program that creates.
extern const DeviceModule kNetUserModule;
// Texts that both programs' entries share.
inline constexpr std::string_view kUserSummary =
    "a network interface over the user's own sockets, without privilege (virtio-net)";
inline constexpr std::string_view kUserOptionHelp =
    "user[,hostfwd=tcp|udp:[ADDRESS]:PORT-[GUEST]:PORT]…[,dns=ADDRESS][,restrict=on]"
    "[,allow=HOST[:PORT]]…[,host-loopback=on][,mac=MAC]";

// An address for one machine, of the locally administered range.
Mac MakeMac();

}  // namespace crosvm::devices::net

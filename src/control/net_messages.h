// What the control socket says about network interfaces.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/describe.h"

namespace crosvm::control {

// Lists the network interfaces: links, queues, counters, forwards.
struct Net {
  static constexpr std::string_view kName = "Net";
  bool operator==(const Net&) const = default;
  static constexpr auto Describe() { return Fields(); }
};

// Adds or removes a port forward of a user-mode network.
struct NetForward {
  static constexpr std::string_view kName = "NetForward";
  uint64_t net_index = 0;  // in the order of the command line
  bool add = true;
  std::string forward;  // as hostfwd= has it
  bool operator==(const NetForward&) const = default;
  static constexpr auto Describe() {
    return Fields(Field("net_index", &NetForward::net_index).Required(),
                  Field("add", &NetForward::add),
                  Field("forward", &NetForward::forward).Required());
  }
};

// Frames since the device's process started.
struct NetPair {
  uint64_t rx_frames = 0;
  uint64_t rx_dropped = 0;   // no room in the guest's buffers
  uint64_t rx_filtered = 0;  // not wanted by the guest
  uint64_t tx_frames = 0;
  uint64_t tx_dropped = 0;  // malformed, or not allowed
  bool operator==(const NetPair&) const = default;
  static constexpr auto Describe() {
    return Fields(
        Field("rx_frames", &NetPair::rx_frames), Field("rx_dropped", &NetPair::rx_dropped),
        Field("rx_filtered", &NetPair::rx_filtered), Field("tx_frames", &NetPair::tx_frames),
        Field("tx_dropped", &NetPair::tx_dropped));
  }
};

struct NetInterface {
  std::string name;  // "net[0]"
  std::string kind;  // "tap", "user", "kernel", "foreign"
  std::string link;  // "up", "down" (no driver), or why nothing is known
  std::string mac;
  uint16_t mtu = 0;
  uint16_t pairs_in_use = 0;
  std::vector<NetPair> pairs;
  std::vector<std::string> forwards;
  bool operator==(const NetInterface&) const = default;
  static constexpr auto Describe() {
    return Fields(Field("name", &NetInterface::name), Field("kind", &NetInterface::kind),
                  Field("link", &NetInterface::link), Field("mac", &NetInterface::mac),
                  Field("mtu", &NetInterface::mtu),
                  Field("pairs_in_use", &NetInterface::pairs_in_use),
                  Field("pairs", &NetInterface::pairs), Field("forwards", &NetInterface::forwards));
  }
};

struct NetList {
  static constexpr std::string_view kName = "Net";
  std::vector<NetInterface> interfaces;
  bool operator==(const NetList&) const = default;
  static constexpr auto Describe() { return Fields(Field("interfaces", &NetList::interfaces)); }
};

}  // namespace crosvm::control

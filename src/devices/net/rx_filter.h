// Which frames the driver wants: receive mode and address tables of the control queue
// (virtio 1.2, 5.1.6.5.1 and 5.1.6.5.2). Until the driver says anything everything passes.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace crosvm::devices::net {

using Mac = std::array<uint8_t, 6>;

struct RxFilter {
  bool promiscuous = true;
  bool all_multicast = false;
  bool all_unicast = false;
  bool no_multicast = false;
  bool no_unicast = false;
  bool no_broadcast = false;
  Mac own{};
  std::vector<Mac> unicast;
  std::vector<Mac> multicast;
  // The driver's table was longer than ours: all of that kind pass.
  bool unicast_overflow = false;
  bool multicast_overflow = false;

  bool Accepts(const Mac& destination) const;
};

}  // namespace crosvm::devices::net

// Commands of the control queue (virtio 1.2, 5.1.6.5), parsed and checked. Pure: what they do is
// the device's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <variant>

#include "devices/net/rx_filter.h"
#include "memory/guest_slice.h"

namespace crosvm::devices::net {

struct SetRxMode {
  uint8_t mode = 0;  // VIRTIO_NET_CTRL_RX_*
  bool on = false;
};
struct SetMacTables {
  std::vector<Mac> unicast;
  std::vector<Mac> multicast;
  bool unicast_overflow = false;
  bool multicast_overflow = false;
};
struct SetMac {
  Mac mac{};
};
struct SetPairs {
  uint16_t pairs = 0;
};
struct SetGuestOffloads {
  uint64_t offloads = 0;
};

using ControlCommand = std::variant<SetRxMode, SetMacTables, SetMac, SetPairs, SetGuestOffloads>;

// Nothing for a command that is unknown or malformed. Reads `request` once.
std::optional<ControlCommand> ParseControlCommand(std::span<const memory::GuestSlice> request);

}  // namespace crosvm::devices::net

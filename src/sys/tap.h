// Tap interfaces: made, found or adopted by the VMM (which has the rights), then handed to the net
// process, which only moves frames and switches offloads. Linux:
// Documentation/networking/tuntap.rst.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sys/fd.h"

namespace crosvm::sys {

// Bytes of the header before each frame: virtio_net_hdr_v1 (virtio 1.2, 5.1.6).
inline constexpr int kTapHeaderBytes = 12;
// Queues of one interface, at most.
inline constexpr uint16_t kMaxTapQueues = 16;

// A tap with all its queues open: non-blocking, headers of kTapHeaderBytes.
struct TapInterface {
  std::string name;
  std::vector<UniqueFd> queues;
};

struct TapAddress {
  std::array<uint8_t, 4> ip{};
  std::array<uint8_t, 4> netmask{};
  std::optional<std::array<uint8_t, 6>> mac;  // of the host's end
};

// Makes an interface that goes when its last queue is closed. A "%d" in `name` becomes the first
// free number. Needs CAP_NET_ADMIN. kAlreadyExists when there is one of that name.
Result<TapInterface> MakeTap(const std::string& name, uint16_t queues);
// Opens an interface that exists (`ip tuntap add`). kNotFound when it does not, kBusy when another
// process has it.
Result<TapInterface> AttachTap(const std::string& name, uint16_t queues);
// Takes a queue that somebody else opened; opens more of the same interface when `queues` says so.
// kInvalidArgument when it is no tap, or lacks a flag that is needed.
Result<TapInterface> AdoptTap(UniqueFd queue, uint16_t queues);

// Gives the host's end its addresses and brings it up.
Status ConfigureTap(const std::string& name, const TapAddress& address);
// Bytes of payload in a frame of the interface.
Result<uint32_t> TapMtu(const std::string& name);

// Which segments and checksums the reader can finish itself: TUN_F_*. Needs no privilege.
Status SetTapOffloads(BorrowedFd queue, unsigned offloads);
// A detached queue of a multi-queue interface gets no frames. Needs no privilege.
Status SetTapQueueAttached(BorrowedFd queue, bool attached);

}  // namespace crosvm::sys

// Where the frames of one pair of queues go and come from: a tap's queue, the user-mode network, a
// test. Used on the thread of the device's loop.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "event/event_loop.h"
#include "memory/guest_slice.h"

namespace crosvm::devices::net {

// A frame, on both ways, is a virtio_net_hdr_v1 of this many bytes and then the Ethernet frame.
inline constexpr size_t kHeaderBytes = 12;
inline constexpr size_t kEthernetHeaderBytes = 14;
// The longest: 64 KiB of IP behind an Ethernet header with a VLAN tag.
inline constexpr size_t kMaxFrameBytes = kHeaderBytes + kEthernetHeaderBytes + 4 + 65535;
// Parts that one frame may lie in (IOV_MAX, less one for the spill).
inline constexpr size_t kMaxFrameSlices = 1023;

class PacketPort {
 public:
  virtual ~PacketPort() = default;

  // Begins to listen. `readable` is called on the loop while frames wait and receiving is on; it is
  // off at first.
  virtual Status Start(event::EventLoop& loop, std::function<void()> readable) = 0;
  // Back-pressure: off while the driver has no buffers. What waits stays with the port (and its
  // bounds).
  virtual void SetReceiving(bool on) = 0;

  // Sends one frame; false when it was dropped (malformed, no room). At most kMaxFrameSlices parts.
  virtual bool Send(std::span<const memory::GuestSlice> frame) = 0;
  // Takes one frame: fills `buffers` in order, and what does not fit goes to `spill` (which holds
  // kMaxFrameBytes). Returns its bytes, 0 when none waits, -errno when the port is broken. The
  // header's num_buffers is the caller's.
  virtual int64_t Receive(std::span<const memory::GuestSlice> buffers,
                          std::span<uint8_t> spill) = 0;

  // What the driver can finish itself, of what it negotiated: VIRTIO_NET_F_GUEST_* bits. When it
  // fails, what was set before stays.
  virtual Status SetOffloads(uint64_t guest_offloads) = 0;
  // Whether the host spreads frames to this port (several pairs).
  virtual void SetAttached(bool attached) = 0;

  // Port forwards, of ports that have them (config::HostForward as text).
  virtual Status ChangeForward(bool /*add*/, std::string_view /*forward*/) {
    return Fail(ErrorKind::kUnsupported, "only a user-mode network (--net user) has forwards");
  }
  virtual std::vector<std::string> Forwards() const { return {}; }
};

}  // namespace crosvm::devices::net

// One queue of a tap: the kernel copies each frame straight between the tap and the guest's
// buffers.
#pragma once

#include <optional>
#include <vector>

#include "devices/net/packet_port.h"
#include "sys/fd.h"

namespace crosvm::devices::net {

class TapPort final : public PacketPort {
 public:
  // The queue is set up (sys/tap.h): non-blocking, headers of kHeaderBytes.
  explicit TapPort(sys::UniqueFd queue) : queue_(std::move(queue)) {}

  Status Start(event::EventLoop& loop, std::function<void()> readable) override;
  void SetReceiving(bool on) override;
  bool Send(std::span<const memory::GuestSlice> frame) override;
  int64_t Receive(std::span<const memory::GuestSlice> buffers, std::span<uint8_t> spill) override;
  Status SetOffloads(uint64_t guest_offloads) override;
  void SetAttached(bool attached) override;

 private:
  sys::UniqueFd queue_;
  event::Watch watch_;
  std::optional<bool> attached_;  // not known at first: a predecessor may have detached the queue
  std::vector<iovec> iovecs_;     // kept for its room
};

// The TUN_F_* flags for what a driver can finish itself (VIRTIO_NET_F_GUEST_* bits), as far as the
// kernel takes them.
unsigned TunOffloads(uint64_t features);

// VIRTIO_NET_F_* bits of offloads that the tap (and this kernel) can do. Leaves all of the tap's
// switched off.
uint64_t ProbeTapFeatures(sys::BorrowedFd queue);

}  // namespace crosvm::devices::net

// One open vhost device of the host's kernel: its ioctls as functions. Used by the VMM, on the main
// thread and on vCPU threads (under the lock of the device's transport).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "memory/guest_memory.h"
#include "sys/event_fd.h"
#include "sys/fd.h"
#include "virtio/backend.h"

namespace crosvm::vhost {

// Virtual, so that tests have one of their own.
class VhostFile {
 public:
  virtual ~VhostFile() = default;

  virtual Result<uint64_t> GetFeatures() = 0;
  virtual Status SetFeatures(uint64_t features) = 0;
  // Guest memory by the addresses at which this process maps it.
  virtual Status SetMemory(const memory::GuestMemory& memory) = 0;
  // Size, position, addresses, kick and call of one ring.
  virtual Status SetRing(const memory::GuestMemory& memory,
                         const virtio::QueueActivation& queue) = 0;
  // Where a stopped ring stands. Gives back the kick and call that it had.
  virtual Result<uint16_t> TakeRing(uint16_t index) = 0;

  // vhost-net: an invalid `tap` stops the ring.
  virtual Status SetNetBackend(uint16_t index, sys::BorrowedFd tap) = 0;
  // vhost-vsock.
  virtual Status SetGuestCid(uint64_t cid) = 0;
  virtual Status SetRunning(bool running) = 0;
};

// Opens a vhost device for this process (VHOST_SET_OWNER): the kernel's worker will use this
// process' memory. `option` is what brought the user here, `remedy` what to do without the device:
// both stand in errors.
Result<std::unique_ptr<VhostFile>> OpenVhost(const std::string& path, std::string_view option,
                                             std::string_view remedy);

}  // namespace crosvm::vhost

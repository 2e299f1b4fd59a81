// A virtio device as its own process sees it (the "backend"): block, net, console, … implement
// this. All calls come on the thread of its event loop. Driven by vhost_user::BackendServer.
//
//            Configure            StartQueue(i)
//   [idle] ────────────► [configured] ◄──────────► [queue i running]
//     ▲                       │        StopQueue(i)
//     └─────── Reset ─────────┘
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"
#include "virtio/queue.h"

namespace crosvm::virtio {

// A region of virtio shared memory (virtio 1.2, 2.10), which the VMM holds.
struct SharedMemoryRegion {
  uint8_t id = 0;
  uint64_t size = 0;  // a multiple of the page size
  bool operator==(const SharedMemoryRegion&) const = default;
};

// Pages of a region.
struct SharedMemoryRange {
  uint8_t region = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
};

// How a device has files mapped into its shared memory. Any thread; calls wait for the VMM, within
// a timeout. kInvalidArgument: the VMM refuses; any other error: it cannot be reached.
class SharedMemoryMapper {
 public:
  virtual ~SharedMemoryMapper() = default;
  // The file is borrowed for the call. Over a range that is mapped: see the VMM's
  // virtio::SharedMemory; others may refuse it.
  virtual Status Map(const SharedMemoryRange& range, sys::BorrowedFd file, uint64_t file_offset,
                     bool writable) = 0;
  virtual Status Unmap(const SharedMemoryRange& range) = 0;
};

// Facts that do not change while the device lives (config_size included; the config's content may
// change).
struct DeviceInfo {
  uint16_t device_id = 0;             // VIRTIO_ID_*
  uint64_t features = 0;              // offered, with kQueueFeatures
  std::vector<uint16_t> queue_sizes;  // maximum size of each queue
  uint32_t config_size = 0;           // bytes of device configuration space
  // What the device would like to have; a VMM may have none for it.
  std::vector<SharedMemoryRegion> shared_memory = {};
};

class Device {
 public:
  // Called by a device when its configuration space has changed; raises the configuration
  // interrupt.
  using ConfigChanged = std::function<void()>;

  virtual ~Device() = default;

  virtual const DeviceInfo& info() const = 0;
  // [offset, offset + data.size()) lies in the configuration space.
  virtual void ReadConfig(uint32_t offset, std::span<uint8_t> data) = 0;
  virtual void WriteConfig(uint32_t offset, std::span<const uint8_t> data) = 0;

  // The driver's choice of features, a subset of those offered; before the first StartQueue and
  // again after Reset().
  virtual void Configure(uint64_t features) = 0;
  // Takes the queue and begins to work on it: what is available now is processed without waiting
  // for a kick.
  virtual Status StartQueue(uint16_t index, Queue queue) = 0;
  // Takes no more requests, finishes what is in flight, then gives the queue back through `done`
  // (on the loop, maybe from inside this call). Requests that wait for the outside world (console
  // input, received packets) are undone, not completed. Index names a running queue.
  virtual void StopQueue(uint16_t index, std::function<void(Queue)> done) = 0;
  // All queues are stopped. Forgets the driver: features, driver-written configuration.
  virtual void Reset() = 0;

  // For devices with shared memory: the way to it, before the first StartQueue, when the VMM has
  // some. Its calls fail when the connection is gone. The VMM unmaps everything at a reset.
  virtual void SetSharedMemory(std::shared_ptr<SharedMemoryMapper> /*mapper*/) {}

  void set_config_changed(ConfigChanged callback) { config_changed_ = std::move(callback); }

 protected:
  void NotifyConfigChanged() {
    if (config_changed_) config_changed_();
  }

 private:
  ConfigChanged config_changed_;
};

}  // namespace crosvm::virtio

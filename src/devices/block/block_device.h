// virtio-blk (virtio 1.2, 5.2) on a raw image. Lives in the block process, on the thread of its
// loop.
//
// Each queue has a slab of requests, one for each ring entry, so memory is bounded by construction
// and the hot path does not allocate. Requests of all queues share one AsyncFile.
#pragma once

#include <linux/virtio_blk.h>

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "devices/block/block_request.h"
#include "devices/module/control.h"
#include "event/async_file.h"
#include "event/busy_poll.h"
#include "event/event_loop.h"
#include "event/gate.h"
#include "virtio/device.h"

namespace crosvm::devices::block {

struct DeviceOptions {
  bool read_only = false;
  bool discard = true;
  uint32_t block_size = 512;
  std::string id;
  uint16_t queues = 1;
  uint64_t capacity_bytes = 0;
  // O_DIRECT: alignment that buffers and their lengths must have, a power of two; 1 for buffered
  // files.
  uint32_t memory_alignment = 1;
};

class BlockDevice : public virtio::Device, public Controllable {
 public:
  BlockDevice(event::EventLoop& loop, std::unique_ptr<event::AsyncFile> file,
              const DeviceOptions& options);
  ~BlockDevice() override;

  const virtio::DeviceInfo& info() const override { return info_; }
  void ReadConfig(uint32_t offset, std::span<uint8_t> data) override;
  void WriteConfig(uint32_t offset, std::span<const uint8_t> data) override;
  void Configure(uint64_t features) override;
  Status StartQueue(uint16_t index, virtio::Queue queue) override;
  void StopQueue(uint16_t index, std::function<void(virtio::Queue)> done) override;
  void Reset() override;

  // ResizeDisk: tells the driver the new capacity.
  Status HandleControl(const ControlRequest& request) override;

 private:
  struct Slot;
  struct QueueState;

  // Takes and starts requests, and sees to it that Settle() follows: notifications are off then.
  void ProcessQueue(QueueState& queue);
  // Does what there is to do without a sleep; false: nothing.
  bool Work();
  bool EnableNotifications();
  void PostSettle();
  // At the end of a turn of the loop in which there was something to do: looks for more, and when
  // there is nothing, asks for notifications.
  void Settle();
  void Start(Slot& slot);
  void AnswerId(Slot& slot);
  void SubmitTransfer(Slot& slot);
  void StartBounce(Slot& slot);
  void SubmitBounce(Slot& slot);
  void ReleaseBounce(Slot& slot);
  void SubmitRange(Slot& slot);
  void SubmitSync(Slot& slot);
  void OnDone(Slot& slot);
  void ContinueAfter(Slot& slot);
  void Finish(Slot& slot, RequestStatus status);
  void FlushQueues();
  void OnBatchEnd();
  bool write_through() const;

  event::EventLoop& loop_;
  const std::unique_ptr<event::AsyncFile> file_;
  const DeviceOptions options_;
  virtio::DeviceInfo info_;
  DiskLimits limits_;
  virtio_blk_config config_{};
  uint64_t features_ = 0;
  std::vector<std::unique_ptr<QueueState>> queues_;
  size_t bounces_ = 0;
  std::deque<Slot*> bounce_waiting_;
  // Posted callbacks hold a weak reference: none runs after the device is gone.
  std::shared_ptr<BlockDevice*> self_;
  bool settle_posted_ = false;
  event::BusyPoll poll_;
};

}  // namespace crosvm::devices::block

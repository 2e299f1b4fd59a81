// virtio-rng (virtio 1.2, 5.4): fills every buffer of the driver from the host's random number
// generator. Lives in the rng process, on the thread of its loop.
#pragma once

#include <memory>
#include <vector>

#include "event/event_loop.h"
#include "virtio/device.h"

namespace crosvm::devices::rng {

class RngDevice : public virtio::Device {
 public:
  explicit RngDevice(event::EventLoop& loop);
  ~RngDevice() override;

  const virtio::DeviceInfo& info() const override { return info_; }
  void ReadConfig(uint32_t offset, std::span<uint8_t> data) override;
  void WriteConfig(uint32_t offset, std::span<const uint8_t> data) override;
  void Configure(uint64_t features) override;
  Status StartQueue(uint16_t index, virtio::Queue queue) override;
  void StopQueue(uint16_t index, std::function<void(virtio::Queue)> done) override;
  void Reset() override;

 private:
  void ProcessQueue();

  event::EventLoop& loop_;
  virtio::DeviceInfo info_;
  std::optional<virtio::Queue> queue_;
  event::Watch kick_;
  event::Timer again_;
};

}  // namespace crosvm::devices::rng

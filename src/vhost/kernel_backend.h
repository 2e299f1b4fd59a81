// A virtio device whose rings the host's kernel works on: the handle that the PCI transport drives.
// The control is the VMM's own (there is no process to jail: the kernel's worker belongs to the VMM
// and uses its memory map), the data goes between guest and kernel alone: kick and call eventfds
// are KVM's.
//
// Calls come as virtio::Backend says, one at a time.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vhost/vhost_file.h"
#include "virtio/backend.h"

namespace crosvm::vhost {

class KernelBackend : public virtio::Backend {
 public:
  const std::string& name() const override { return name_; }
  const virtio::DeviceInfo& info() const override { return info_; }
  // The kernel neither dies nor speaks up.
  void SetEvents(virtio::BackendEvents) override {}

  Status ReadConfig(uint32_t offset, std::span<uint8_t> data) override;
  Status WriteConfig(uint32_t offset, std::span<const uint8_t> data) override;
  Status CheckFeatures(uint64_t features) override;
  Status Activate(const memory::GuestMemory& memory, uint64_t features,
                  std::span<const virtio::QueueActivation> queues) override;
  Status StartQueue(const virtio::QueueActivation& queue) override;
  Result<virtio::RingPosition> StopQueue(uint16_t index) override;
  // The kernel keeps nothing of the driver but the rings: to it the two are the same.
  Result<std::vector<virtio::RingPosition>> Suspend() override;
  Status Deactivate() override;

 protected:
  // `rings`: how many of the queues, from the first, are the kernel's.
  KernelBackend(std::string name, std::unique_ptr<VhostFile> file, virtio::DeviceInfo info,
                std::vector<uint8_t> config, uint64_t kernel_features, uint16_t rings);

  VhostFile& file() { return *file_; }
  // The rings are set up: let the data flow. And the reverse, before positions are asked for.
  virtual Status StartData(uint64_t features) = 0;
  virtual Status StopData() = 0;

 private:
  Status Start(uint64_t features, std::span<const virtio::QueueActivation> queues);
  Status SetUp(const virtio::QueueActivation& queue);

  const std::string name_;
  const std::unique_ptr<VhostFile> file_;
  const virtio::DeviceInfo info_;
  const std::vector<uint8_t> config_;
  const uint64_t kernel_features_;  // of those offered, what the kernel has to know of
  const uint16_t rings_;
  memory::GuestMemory memory_;  // kept mapped for as long as the kernel may use it
  bool active_ = false;
  // By index: where the queues that run began.
  std::vector<std::optional<virtio::RingPosition>> running_;
};

}  // namespace crosvm::vhost

#include "vhost/kernel_backend.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"

namespace crosvm::vhost {

KernelBackend::KernelBackend(std::string name, std::unique_ptr<VhostFile> file,
                             virtio::DeviceInfo info, std::vector<uint8_t> config,
                             uint64_t kernel_features, uint16_t rings)
    : name_(std::move(name)),
      file_(std::move(file)),
      info_(std::move(info)),
      config_(std::move(config)),
      kernel_features_(kernel_features),
      rings_(rings),
      running_(info_.queue_sizes.size()) {
  CHECK(config_.size() == info_.config_size && rings_ <= running_.size());
}

Status KernelBackend::ReadConfig(uint32_t offset, std::span<uint8_t> data) {
  CHECK(offset + data.size() <= config_.size());
  std::copy_n(config_.begin() + offset, data.size(), data.begin());
  return {};
}

Status KernelBackend::WriteConfig(uint32_t, std::span<const uint8_t>) {
  return {};  // nothing in it is the driver's to write
}

Status KernelBackend::CheckFeatures(uint64_t features) {
  if ((features & ~info_.features) == 0) return {};
  return Fail(ErrorKind::kUnsupported, "features {:#x} were not offered",
              features & ~info_.features);
}

Status KernelBackend::SetUp(const virtio::QueueActivation& queue) {
  CHECK(queue.index < running_.size());
  running_[queue.index] = queue.position;
  if (queue.index < rings_) return file_->SetRing(memory_, queue);
  return {};
}

Status KernelBackend::Activate(const memory::GuestMemory& memory, uint64_t features,
                               std::span<const virtio::QueueActivation> queues) {
  CHECK(!active_);
  memory_ = memory;
  active_ = true;
  Status status = Start(features, queues);
  if (status.has_value()) return status;
  // The kernel keeps nothing of what was half done.
  const auto undone = Deactivate();
  if (!undone.has_value()) LOG_DEBUG("{}", undone.error().ToString());
  return std::unexpected(std::move(status).error().Context(name_));
}

Status KernelBackend::Start(uint64_t features, std::span<const virtio::QueueActivation> queues) {
  TRY(file_->SetFeatures(features & kernel_features_));
  TRY(file_->SetMemory(memory_));
  for (const virtio::QueueActivation& queue : queues) TRY(SetUp(queue));
  for (uint16_t index = 0; index < rings_; ++index) {
    // The kernel starts all or nothing.
    if (!running_[index]) {
      return Fail(ErrorKind::kUnsupported, "the driver did not set up queue {}", index);
    }
  }
  return StartData(features);
}

Status KernelBackend::StartQueue(const virtio::QueueActivation& queue) {
  if (queue.index < rings_) {
    return Fail(ErrorKind::kUnsupported, "{}: queue {} cannot start alone", name_, queue.index);
  }
  return SetUp(queue);
}

Result<virtio::RingPosition> KernelBackend::StopQueue(uint16_t index) {
  if (index < rings_ || !running_[index]) {
    return Fail(ErrorKind::kUnsupported, "{}: queue {} cannot stop alone", name_, index);
  }
  const virtio::RingPosition position = *running_[index];
  running_[index].reset();
  return position;
}

Status KernelBackend::Deactivate() {
  Result<std::vector<virtio::RingPosition>> stopped = Suspend();
  if (!stopped.has_value()) return std::unexpected(std::move(stopped).error());
  return {};
}

Result<std::vector<virtio::RingPosition>> KernelBackend::Suspend() {
  std::vector<virtio::RingPosition> positions(running_.size());
  Status status;
  if (std::exchange(active_, false)) status = StopData();
  for (uint16_t index = 0; index < running_.size(); ++index) {
    if (!running_[index]) continue;
    positions[index] = *running_[index];
    running_[index].reset();
    if (index >= rings_) continue;
    // Every ring is taken back, whatever became of another.
    const Result<uint16_t> next = file_->TakeRing(index);
    if (next.has_value()) {
      positions[index].next_avail = *next;
    } else if (status.has_value()) {
      status = std::unexpected(next.error().Clone());
    }
  }
  memory_ = memory::GuestMemory();
  if (!status.has_value()) {
    return std::unexpected(std::move(status).error().Context(name_));
  }
  return positions;
}

}  // namespace crosvm::vhost

// The split virtqueue of virtio 1.2, 2.7. Private to virtio/.
#pragma once

#include <vector>

#include "virtio/chain_builder.h"
#include "virtio/ring.h"

namespace crosvm::virtio {

class SplitRing final : public Ring {
 public:
  static Result<std::unique_ptr<Ring>> Create(const memory::GuestMemory& memory,
                                              const QueueConfig& config,
                                              std::unique_ptr<InflightQueue> inflight);

  PopResult Pop(Chain& chain) override;
  void Accept(Chain& chain) override;
  void Undo(const Chain& chain) override;
  void SuppressNotifications() override;
  bool HasAvailable() override;
  bool EnableNotifications() override;
  void Complete(const Chain& chain, uint32_t written) override;
  void Abandon(const Chain& chain) override;
  bool Publish() override;
  RingPosition position() const override;
  bool recovery_pending() const override { return next_recovered_ < recovered_.size(); }

 private:
  SplitRing(const memory::GuestMemory& memory, const QueueConfig& config,
            std::unique_ptr<InflightQueue> inflight)
      : Ring(config.size),
        memory_(memory),
        features_(config.features),
        inflight_(std::move(inflight)) {}

  PopResult Build(uint16_t head, Chain& chain);

  memory::GuestMemory memory_;
  uint64_t features_;
  std::unique_ptr<InflightQueue> inflight_;
  memory::GuestSlice table_;
  memory::GuestSlice avail_ring_;
  memory::GuestSlice used_ring_;
  memory::GuestCell<uint16_t> avail_flags_;
  memory::GuestCell<uint16_t> avail_index_;
  memory::GuestCell<uint16_t> used_event_;  // of the driver: when to interrupt
  memory::GuestCell<uint16_t> used_flags_;
  memory::GuestCell<uint16_t> used_index_;
  memory::GuestCell<uint16_t> avail_event_;  // of ours: when to notify

  uint16_t next_avail_ = 0;
  uint16_t seen_avail_ = 0;  // the last avail index that was loaded
  uint16_t next_used_ = 0;
  uint16_t published_used_ = 0;
  bool armed_ = false;
  uint16_t armed_at_ = 0;
  std::vector<uint16_t> batch_;      // ids completed since the last Publish; inflight only
  std::vector<uint16_t> recovered_;  // ids of a predecessor, oldest first
  size_t next_recovered_ = 0;
};

}  // namespace crosvm::virtio

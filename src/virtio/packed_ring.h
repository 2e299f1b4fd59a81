// The packed virtqueue of virtio 1.2, 2.8. Private to virtio/.
#pragma once

#include <vector>

#include "virtio/chain_builder.h"
#include "virtio/ring.h"

namespace crosvm::virtio {

class PackedRing final : public Ring {
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
  // A place in the ring and the lap's parity.
  struct Cursor {
    uint16_t index = 0;
    bool wrap = true;
  };

  PackedRing(const memory::GuestMemory& memory, const QueueConfig& config,
             std::unique_ptr<InflightQueue> inflight)
      : Ring(config.size),
        memory_(memory),
        features_(config.features),
        inflight_(std::move(inflight)) {}

  Status Recover();
  memory::GuestCell<uint16_t> Flags(uint16_t index) const;
  bool IsAvailable(Cursor cursor) const;
  Cursor Move(Cursor cursor, int32_t slots) const;
  // Collects the descriptors of the chain at next_avail_ in descriptors_; false when they break the
  // rules.
  bool Collect(uint16_t head_flags);
  PopResult Build(std::span<const PackedDescriptor> descriptors, Chain& chain);
  void SetDriverWish(uint16_t offset_wrap, uint16_t flags);

  memory::GuestMemory memory_;
  uint64_t features_;
  std::unique_ptr<InflightQueue> inflight_;
  memory::GuestSlice ring_;
  memory::GuestCell<uint32_t> driver_event_;        // of the driver: when to interrupt
  memory::GuestCell<uint16_t> device_event_where_;  // of ours: when to notify
  memory::GuestCell<uint16_t> device_event_flags_;

  Cursor next_avail_;
  Cursor next_used_;
  // From the last published used element to next_avail_. A driver sees used elements of a batch
  // before all are shown and could make their slots available again, whose in-flight records are
  // not free before the batch is published; so these count until then.
  uint32_t slots_taken_ = 0;
  uint32_t slots_unpublished_ = 0;  // of slots_taken_: completed
  bool armed_ = false;
  Cursor armed_at_;

  // The used elements since the last Publish(). The first one's flags are what shows them all.
  bool batch_open_ = false;
  Cursor batch_start_;
  uint16_t batch_flags_ = 0;
  std::vector<uint16_t> batch_;  // in-flight entries

  std::vector<PackedDescriptor> descriptors_;  // of the chain being popped
  std::vector<PackedInflight> recovered_;      // of a predecessor, oldest first
  size_t next_recovered_ = 0;
};

}  // namespace crosvm::virtio

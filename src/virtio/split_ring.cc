#include "virtio/split_ring.h"

#include "virtio/types.h"

namespace crosvm::virtio {
namespace {

struct UsedElement {
  Le32 id;
  Le32 length;
};
static_assert(sizeof(UsedElement) == 8);

// virtio 1.2, 2.7: sizes and alignments of the three areas, the event words included.
constexpr uint64_t kDescriptorAlign = 16;
constexpr uint64_t kAvailAlign = 2;
constexpr uint64_t kUsedAlign = 4;
constexpr uint64_t kRingHeader = 4;

Result<memory::GuestSlice> Area(const memory::GuestMemory& memory, const char* what,
                                memory::GuestAddr address, uint64_t size, uint64_t alignment) {
  const std::optional<memory::GuestSlice> slice = memory.Slice(address, size);
  if (!slice || !IsAligned(address.value(), alignment)) {
    return Fail(ErrorKind::kInvalidArgument, "the {} at {:#x} is misaligned or outside memory",
                what, address.value());
  }
  return *slice;
}

// True when moving an index from `before` to `now` has passed `event` (virtio 1.2, 2.7.7.2).
bool PassedEvent(uint16_t event, uint16_t now, uint16_t before) {
  return static_cast<uint16_t>(now - event - 1) < static_cast<uint16_t>(now - before);
}

}  // namespace

Result<std::unique_ptr<Ring>> SplitRing::Create(const memory::GuestMemory& memory,
                                                const QueueConfig& config,
                                                std::unique_ptr<InflightQueue> inflight) {
  const uint64_t size = config.size;
  if (size == 0 || size > kMaxQueueSize || (size & (size - 1)) != 0) {
    return Fail(ErrorKind::kInvalidArgument, "a split queue of size {} (want a power of two)",
                size);
  }
  std::unique_ptr<SplitRing> ring(new SplitRing(memory, config, std::move(inflight)));
  ring->table_ = TRY(Area(memory, "descriptor table", config.addresses.descriptors,
                          size * sizeof(RawDescriptor), kDescriptorAlign));
  const memory::GuestSlice avail = TRY(Area(memory, "available ring", config.addresses.driver,
                                            kRingHeader + 2 * size + 2, kAvailAlign));
  const memory::GuestSlice used =
      TRY(Area(memory, "used ring", config.addresses.device,
               kRingHeader + sizeof(UsedElement) * size + 2, kUsedAlign));
  ring->avail_ring_ = avail.Sub(kRingHeader, 2 * size);
  ring->used_ring_ = used.Sub(kRingHeader, sizeof(UsedElement) * size);
  ring->avail_flags_ = *avail.Cell<uint16_t>(0);
  ring->avail_index_ = *avail.Cell<uint16_t>(2);
  ring->used_event_ = *avail.Cell<uint16_t>(kRingHeader + 2 * size);
  ring->used_flags_ = *used.Cell<uint16_t>(0);
  ring->used_index_ = *used.Cell<uint16_t>(2);
  ring->avail_event_ = *used.Cell<uint16_t>(kRingHeader + sizeof(UsedElement) * size);

  ring->next_avail_ = config.position.next_avail;
  // The used index has no place in vhost-user's messages; it is where the ring says.
  // ORDERING: acquire pairs with a dead predecessor's release; its used elements are before it.
  ring->next_used_ = ring->used_index_.LoadAcquire();
  ring->published_used_ = ring->next_used_;
  if (ring->inflight_) {
    ring->batch_.reserve(size);
    if (ring->inflight_->fresh()) {
      ring->inflight_->StartSplit(ring->next_used_);
    } else {
      ring->recovered_ = ring->inflight_->Recover(ring->next_used_);
      // TRUST: the records are the peer's and may be those of a larger queue.
      for (const uint16_t id : ring->recovered_) {
        if (id >= size)
          return Fail(ErrorKind::kProtocol, "in-flight records name head {} of {}", id, size);
      }
      // All that was taken is either published or in flight.
      ring->next_avail_ = static_cast<uint16_t>(ring->next_used_ + ring->recovered_.size());
    }
  }
  ring->seen_avail_ = ring->next_avail_;
  return ring;
}

PopResult SplitRing::Pop(Chain& chain) {
  if (next_recovered_ < recovered_.size()) {
    chain.recovered_ = true;
    const PopResult result = Build(recovered_[next_recovered_], chain);
    if (result == PopResult::kChain) ++next_recovered_;
    return result;
  }
  while (!HasAvailable()) {
    if (!EnableNotifications()) return PopResult::kEmpty;
  }
  if (static_cast<uint16_t>(seen_avail_ - next_avail_) > size_) {
    return Broken("the available index moved by more than the queue size");
  }
  const size_t slot = next_avail_ & (size_ - 1);
  const uint16_t head = *avail_ring_.Read<Le16>(slot * 2);
  if (head >= size_) return Broken("the available ring names a descriptor outside the table");
  const PopResult result = Build(head, chain);
  if (result == PopResult::kChain) ++next_avail_;
  return result;
}

PopResult SplitRing::Build(uint16_t head, Chain& chain) {
  ChainBuilder builder(memory_, chain);
  chain.id_ = head;
  uint16_t index = head;
  for (uint32_t seen = 0; seen < size_; ++seen) {
    const RawDescriptor raw = *table_.Read<RawDescriptor>(size_t{index} * sizeof(RawDescriptor));
    const uint16_t flags = raw.third;
    if ((flags & ~(VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)) != 0) {
      return Broken("a descriptor has unknown flags");
    }
    if ((flags & VRING_DESC_F_INDIRECT) != 0) {
      if ((features_ & FeatureBit(VIRTIO_RING_F_INDIRECT_DESC)) == 0) {
        return Broken("an indirect descriptor, which was not negotiated");
      }
      // virtio 1.2, 2.7.5.3.1
      if ((flags & VRING_DESC_F_NEXT) != 0) return Broken("an indirect descriptor has a successor");
      const char* const why = builder.AddSplitTable(raw.address, raw.length);
      return why == nullptr ? PopResult::kChain : Broken(why);
    }
    const char* const why =
        builder.AddBuffer(raw.address, raw.length, (flags & VRING_DESC_F_WRITE) != 0);
    if (why != nullptr) return Broken(why);
    if ((flags & VRING_DESC_F_NEXT) == 0) return PopResult::kChain;
    index = raw.fourth;
    if (index >= size_) return Broken("a link leaves the descriptor table");
  }
  return Broken("a descriptor chain has a loop");
}

void SplitRing::Accept(Chain& chain) {
  // A recovered one is recorded already.
  if (inflight_ && !chain.recovered_) inflight_->Taken(chain.id_);
}

void SplitRing::Undo(const Chain& chain) {
  if (chain.recovered_) {
    --next_recovered_;
    return;
  }
  if (inflight_) inflight_->Undone(chain.id_);
  --next_avail_;
  // What was seen is still there; a driver does not take back.
}

void SplitRing::SuppressNotifications() {
  const bool was_armed = std::exchange(armed_, false);
  if ((features_ & FeatureBit(VIRTIO_RING_F_EVENT_IDX)) == 0) {
    used_flags_.StoreRelaxed(VRING_USED_F_NO_NOTIFY);
  } else if (was_armed && armed_at_ == next_avail_) {
    // An index that is behind. One that has been passed need not be changed.
    avail_event_.StoreRelaxed(static_cast<uint16_t>(next_avail_ - 1));
  }
}

bool SplitRing::HasAvailable() {
  if (recovery_pending()) return true;
  // ORDERING: pairs with the driver's release of the index; ring entry and descriptors are read
  // after it.
  if (next_avail_ == seen_avail_) seen_avail_ = avail_index_.LoadAcquire();
  return next_avail_ != seen_avail_;
}

bool SplitRing::EnableNotifications() {
  const bool event_index = (features_ & FeatureBit(VIRTIO_RING_F_EVENT_IDX)) != 0;
  if (armed_ && (!event_index || armed_at_ == next_avail_)) return false;
  if (event_index) {
    avail_event_.StoreRelaxed(next_avail_);
  } else {
    used_flags_.StoreRelaxed(0);
  }
  armed_ = true;
  armed_at_ = next_avail_;
  // ORDERING: virtio 1.2, 2.7.10.1: the wish to be notified must be visible before the last look at
  // the index, else a driver that adds in between notifies nobody.
  memory::FullFence();
  seen_avail_ = avail_index_.LoadAcquire();
  return seen_avail_ != next_avail_;
}

void SplitRing::Complete(const Chain& chain, uint32_t written) {
  const size_t slot = next_used_ & (size_ - 1);
  const UsedElement element{.id = uint32_t{chain.id_}, .length = written};
  // SAFETY: a wire struct without padding, as bytes.
  used_ring_.Sub(slot * sizeof(element), sizeof(element))
      .CopyFrom({reinterpret_cast<const uint8_t*>(&element), sizeof(element)});
  ++next_used_;
  if (!inflight_) return;
  inflight_->BeforePublish(chain.id_);
  batch_.push_back(chain.id_);
}

void SplitRing::Abandon(const Chain& chain) {
  if (inflight_) inflight_->Undone(chain.id_);
}

bool SplitRing::Publish() {
  const uint16_t before = published_used_;
  // ORDERING: release: payload and used elements are visible before the index.
  used_index_.StoreRelease(next_used_);
  published_used_ = next_used_;
  if (inflight_) {
    inflight_->AfterPublish(batch_, next_used_);
    batch_.clear();
  }
  // ORDERING: the index must be visible before the suppression word is read, else a driver that
  // enables interrupts in between waits for ever.
  memory::FullFence();
  if ((features_ & FeatureBit(VIRTIO_RING_F_EVENT_IDX)) != 0) {
    return PassedEvent(used_event_.LoadRelaxed(), next_used_, before);
  }
  return (avail_flags_.LoadRelaxed() & VRING_AVAIL_F_NO_INTERRUPT) == 0;
}

RingPosition SplitRing::position() const {
  return {.next_avail = next_avail_, .next_used = next_used_};
}

}  // namespace crosvm::virtio

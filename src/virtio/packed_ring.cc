#include "virtio/packed_ring.h"

#include <cstddef>
#include <utility>

#include "virtio/types.h"

namespace crosvm::virtio {
namespace {

constexpr uint16_t kAvail = 1 << VRING_PACKED_DESC_F_AVAIL;
constexpr uint16_t kUsed = uint16_t{1} << VRING_PACKED_DESC_F_USED;
constexpr uint16_t kWrapBit = 1 << 15;

// Places in a descriptor of the ring.
constexpr size_t kLengthAt = offsetof(RawDescriptor, length);
constexpr size_t kIdAt = offsetof(RawDescriptor, third);
constexpr size_t kFlagsAt = offsetof(RawDescriptor, fourth);

// virtio 1.2, 2.8.1: how the two bits look in a lap.
constexpr uint16_t AvailableBits(bool wrap) {
  return wrap ? kAvail : kUsed;
}
constexpr uint16_t UsedBits(bool wrap) {
  return wrap ? (kAvail | kUsed) : 0;
}

}  // namespace

Result<std::unique_ptr<Ring>> PackedRing::Create(const memory::GuestMemory& memory,
                                                 const QueueConfig& config,
                                                 std::unique_ptr<InflightQueue> inflight) {
  const uint16_t size = config.size;
  if (size == 0 || size > kMaxQueueSize) {
    return Fail(ErrorKind::kInvalidArgument, "a packed queue of size {}", size);
  }
  std::unique_ptr<PackedRing> ring(new PackedRing(memory, config, std::move(inflight)));
  const std::optional<memory::GuestSlice> slots =
      memory.Slice(config.addresses.descriptors, uint64_t{size} * sizeof(RawDescriptor));
  if (!slots || !IsAligned<uint64_t>(config.addresses.descriptors.value(), 16)) {
    return Fail(ErrorKind::kInvalidArgument,
                "the descriptor ring at {:#x} is misaligned or outside memory",
                config.addresses.descriptors.value());
  }
  ring->ring_ = *slots;
  const auto driver = memory.Cell<uint32_t>(config.addresses.driver);
  const auto where = memory.Cell<uint16_t>(config.addresses.device);
  const std::optional<memory::GuestSlice> device = memory.Slice(config.addresses.device, 4);
  if (!driver || !where || !device || !IsAligned<uint64_t>(config.addresses.device.value(), 4)) {
    return Fail(ErrorKind::kInvalidArgument,
                "the event suppression areas at {:#x} and {:#x} are misaligned or outside memory",
                config.addresses.driver.value(), config.addresses.device.value());
  }
  ring->driver_event_ = *driver;
  ring->device_event_where_ = *where;
  ring->device_event_flags_ = *device->Cell<uint16_t>(2);

  const RingPosition& at = config.position;
  if (at.next_avail >= size || at.next_used >= size) {
    return Fail(ErrorKind::kInvalidArgument, "a packed queue of size {} cannot start at {} and {}",
                size, at.next_avail, at.next_used);
  }
  ring->next_avail_ = {at.next_avail, at.avail_wrap};
  ring->next_used_ = {at.next_used, at.used_wrap};
  ring->descriptors_.reserve(size);
  if (ring->inflight_) TRY(ring->Recover());
  return ring;
}

Status PackedRing::Recover() {
  batch_.reserve(size_);
  if (inflight_->fresh()) {
    inflight_->StartPacked({.index = next_used_.index, .wrap = next_used_.wrap});
    return {};
  }
  const PackedUsedPosition old = inflight_->OldUsed();
  if (old.index >= size_)
    return Fail(ErrorKind::kProtocol, "in-flight records name used index {}", old.index);
  // ORDERING: acquire pairs with a dead predecessor's publishing store.
  const uint16_t flags = Flags(old.index).LoadAcquire() & (kAvail | kUsed);
  PackedUsedPosition used;
  recovered_ = TRY(inflight_->RecoverPacked(flags != AvailableBits(old.wrap), used));
  next_used_ = {used.index, used.wrap};
  slots_taken_ = 0;
  for (const PackedInflight& request : recovered_) {
    slots_taken_ += static_cast<uint32_t>(request.descriptors.size());
  }
  // TRUST: the records are the peer's and may be those of a larger queue.
  if (used.index >= size_ || slots_taken_ > size_) {
    return Fail(ErrorKind::kProtocol, "in-flight records of {} descriptors for a queue of {}",
                slots_taken_, size_);
  }
  next_avail_ = Move(next_used_, static_cast<int32_t>(slots_taken_));
  // A predecessor that died before it published its batch has left used elements behind the first
  // slot. The driver must not run into them when we publish less at once.
  for (uint32_t i = 0; i < slots_taken_; ++i) {
    const Cursor cursor = Move(next_used_, static_cast<int32_t>(i));
    Flags(cursor.index).StoreRelease(AvailableBits(cursor.wrap));
  }
  return {};
}

memory::GuestCell<uint16_t> PackedRing::Flags(uint16_t index) const {
  return *ring_.Cell<uint16_t>(size_t{index} * sizeof(RawDescriptor) + kFlagsAt);
}

bool PackedRing::IsAvailable(Cursor cursor) const {
  // ORDERING: pairs with the driver's release of these flags; the rest of the chain is read after
  // them.
  return (Flags(cursor.index).LoadAcquire() & (kAvail | kUsed)) == AvailableBits(cursor.wrap);
}

PackedRing::Cursor PackedRing::Move(Cursor cursor, int32_t slots) const {
  // REQUIRES: at most one lap.
  int32_t index = cursor.index + slots;
  if (index >= size_) {
    index -= size_;
    cursor.wrap = !cursor.wrap;
  } else if (index < 0) {
    index += size_;
    cursor.wrap = !cursor.wrap;
  }
  cursor.index = static_cast<uint16_t>(index);
  return cursor;
}

PopResult PackedRing::Pop(Chain& chain) {
  if (next_recovered_ < recovered_.size()) {
    const PackedInflight& request = recovered_[next_recovered_];
    chain.recovered_ = true;
    chain.inflight_entry_ = request.entry;
    const PopResult result = Build(request.descriptors, chain);
    if (result == PopResult::kChain) ++next_recovered_;
    return result;
  }
  uint16_t flags = Flags(next_avail_.index).LoadAcquire();
  while ((flags & (kAvail | kUsed)) != AvailableBits(next_avail_.wrap)) {
    if (!EnableNotifications()) return PopResult::kEmpty;
    flags = Flags(next_avail_.index).LoadAcquire();
  }
  if (!Collect(flags)) return PopResult::kBroken;
  const PopResult result = Build(descriptors_, chain);
  if (result != PopResult::kChain) return result;
  next_avail_ = Move(next_avail_, chain.descriptors_);
  slots_taken_ += chain.descriptors_;
  return result;
}

bool PackedRing::Collect(uint16_t head_flags) {
  descriptors_.clear();
  uint16_t flags = head_flags;
  Cursor cursor = next_avail_;
  while (true) {
    if (slots_taken_ + descriptors_.size() >= size_) {
      Broken("a descriptor chain is longer than the ring has room");
      return false;
    }
    const RawDescriptor raw =
        *ring_.Read<RawDescriptor>(size_t{cursor.index} * sizeof(RawDescriptor));
    // The head's flags are those that were checked, not a second reading of them.
    if (!descriptors_.empty()) flags = raw.fourth;
    descriptors_.push_back(
        {.address = raw.address, .length = raw.length, .id = raw.third, .flags = flags});
    if ((flags & VRING_DESC_F_NEXT) == 0) return true;
    cursor = Move(cursor, 1);
  }
}

PopResult PackedRing::Build(std::span<const PackedDescriptor> descriptors, Chain& chain) {
  constexpr uint16_t kKnown =
      VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT | kAvail | kUsed;
  ChainBuilder builder(memory_, chain);
  // virtio 1.2, 2.8.6: the buffer id is in the last descriptor.
  chain.id_ = descriptors.back().id;
  chain.descriptors_ = static_cast<uint16_t>(descriptors.size());
  for (const PackedDescriptor& descriptor : descriptors) {
    if ((descriptor.flags & ~kKnown) != 0) return Broken("a descriptor has unknown flags");
    const char* why = nullptr;
    if ((descriptor.flags & VRING_DESC_F_INDIRECT) != 0) {
      if ((features_ & FeatureBit(VIRTIO_RING_F_INDIRECT_DESC)) == 0) {
        return Broken("an indirect descriptor, which was not negotiated");
      }
      // virtio 1.2, 2.8.8: alone.
      if (descriptors.size() != 1) return Broken("an indirect descriptor is part of a chain");
      why = builder.AddPackedTable(descriptor.address, descriptor.length);
    } else {
      why = builder.AddBuffer(descriptor.address, descriptor.length,
                              (descriptor.flags & VRING_DESC_F_WRITE) != 0);
    }
    if (why != nullptr) return Broken(why);
  }
  return PopResult::kChain;
}

void PackedRing::Accept(Chain& chain) {
  if (inflight_ && !chain.recovered_) chain.inflight_entry_ = inflight_->TakenPacked(descriptors_);
}

void PackedRing::Undo(const Chain& chain) {
  if (chain.recovered_) {
    --next_recovered_;
    return;
  }
  if (inflight_) inflight_->UndonePacked(chain.inflight_entry_);
  next_avail_ = Move(next_avail_, -int32_t{chain.descriptors_});
  slots_taken_ -= chain.descriptors_;
}

void PackedRing::SetDriverWish(uint16_t offset_wrap, uint16_t flags) {
  device_event_where_.StoreRelaxed(offset_wrap);
  // ORDERING: the driver reads the flags first, so they are stored last.
  device_event_flags_.StoreRelease(flags);
}

void PackedRing::SuppressNotifications() {
  armed_ = false;
  SetDriverWish(0, VRING_PACKED_EVENT_FLAG_DISABLE);
}

bool PackedRing::HasAvailable() {
  return recovery_pending() || IsAvailable(next_avail_);
}

bool PackedRing::EnableNotifications() {
  const bool event_index = (features_ & FeatureBit(VIRTIO_RING_F_EVENT_IDX)) != 0;
  const bool same = armed_at_.index == next_avail_.index && armed_at_.wrap == next_avail_.wrap;
  if (armed_ && (!event_index || same)) return false;
  if (event_index) {
    const uint16_t wrap = next_avail_.wrap ? kWrapBit : 0;
    SetDriverWish(static_cast<uint16_t>(next_avail_.index | wrap), VRING_PACKED_EVENT_FLAG_DESC);
  } else {
    SetDriverWish(0, VRING_PACKED_EVENT_FLAG_ENABLE);
  }
  armed_ = true;
  armed_at_ = next_avail_;
  // ORDERING: as in SplitRing: the wish must be visible before the last look at the slot.
  memory::FullFence();
  return IsAvailable(next_avail_);
}

void PackedRing::Complete(const Chain& chain, uint32_t written) {
  const size_t slot = size_t{next_used_.index} * sizeof(RawDescriptor);
  ring_.Cell<uint32_t>(slot + kLengthAt)->StoreRelaxed(written);
  ring_.Cell<uint16_t>(slot + kIdAt)->StoreRelaxed(chain.id_);
  uint16_t flags = UsedBits(next_used_.wrap);
  // virtio 1.2, 2.8.4: tells whether the length means something.
  if (written > 0) flags |= VRING_DESC_F_WRITE;
  if (batch_open_) {
    // Shown with the first one's flags, behind which the driver does not look before.
    Flags(next_used_.index).StoreRelease(flags);
  } else {
    batch_open_ = true;
    batch_start_ = next_used_;
    batch_flags_ = flags;
  }
  if (inflight_) batch_.push_back(chain.inflight_entry_);
  next_used_ = Move(next_used_, chain.descriptors_);
  slots_unpublished_ += chain.descriptors_;
}

void PackedRing::Abandon(const Chain& chain) {
  if (inflight_) inflight_->UndonePacked(chain.inflight_entry_);
}

bool PackedRing::Publish() {
  if (inflight_) {
    inflight_->BeforePublishPacked(batch_, {.index = next_used_.index, .wrap = next_used_.wrap});
  }
  // ORDERING: release: payload and all used elements are visible before these flags.
  Flags(batch_start_.index).StoreRelease(batch_flags_);
  batch_open_ = false;
  slots_taken_ -= std::exchange(slots_unpublished_, 0);
  if (inflight_) {
    inflight_->AfterPublishPacked(batch_);
    batch_.clear();
  }
  // ORDERING: as in SplitRing::Publish.
  memory::FullFence();
  const uint32_t event = driver_event_.LoadRelaxed();
  const auto where = static_cast<uint16_t>(event);
  const auto flags = static_cast<uint16_t>(event >> 16) & 3;
  if (flags == VRING_PACKED_EVENT_FLAG_DISABLE) return false;
  const bool event_index = (features_ & FeatureBit(VIRTIO_RING_F_EVENT_IDX)) != 0;
  if (flags != VRING_PACKED_EVENT_FLAG_DESC || !event_index) return true;

  // virtio 1.2, 2.8.10: has the batch passed the slot that the driver waits for? Counted in slots
  // from the batch's start.
  const auto distance = [this](Cursor to) {
    const int32_t lap = to.wrap == batch_start_.wrap ? 0 : size_;
    return to.index + lap - batch_start_.index;
  };
  const Cursor wanted{static_cast<uint16_t>(where & ~kWrapBit), (where & kWrapBit) != 0};
  const int32_t ahead = distance(wanted);
  const int32_t done = next_used_.index == batch_start_.index ? size_ : distance(next_used_);
  return ahead >= 0 && ahead < done;
}

RingPosition PackedRing::position() const {
  return {.next_avail = next_avail_.index,
          .avail_wrap = next_avail_.wrap,
          .next_used = next_used_.index,
          .used_wrap = next_used_.wrap};
}

}  // namespace crosvm::virtio

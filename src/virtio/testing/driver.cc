#include "virtio/testing/driver.h"

#include <poll.h>

#include <algorithm>

#include "base/check.h"
#include "base/checked_math.h"
#include "virtio/chain_builder.h"
#include "virtio/types.h"

namespace crosvm::virtio::testing {

using memory::GuestAddr;

namespace {

constexpr uint16_t kAvailBit = 1 << VRING_PACKED_DESC_F_AVAIL;
constexpr uint16_t kUsedBit = uint16_t{1} << VRING_PACKED_DESC_F_USED;

GuestAddr At(GuestAddr base, uint64_t offset) {
  return GuestAddr(base.value() + offset);
}

}  // namespace

ChainSpec& ChainSpec::Readable(std::span<const uint8_t> bytes) {
  const GuestAddr at = driver_.AllocateBuffer(bytes.size());
  CHECK(driver_.memory_.WriteBytes(at, bytes));
  return Raw(at.value(), static_cast<uint32_t>(bytes.size()), 0);
}

ChainSpec& ChainSpec::Readable(std::string_view text) {
  // SAFETY: characters as bytes.
  return Readable(std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

ChainSpec& ChainSpec::Writable(uint32_t size) {
  return Raw(driver_.AllocateBuffer(size).value(), size, VRING_DESC_F_WRITE);
}

ChainSpec& ChainSpec::Raw(uint64_t address, uint32_t length, uint16_t flags) {
  buffers_.push_back({address, length, flags});
  return *this;
}

ChainSpec& ChainSpec::Indirect() {
  indirect_ = true;
  return *this;
}

uint16_t ChainSpec::Stage() {
  return driver_.Stage(*this);
}

uint16_t ChainSpec::Submit() {
  const uint16_t id = driver_.Stage(*this);
  driver_.Publish();
  return id;
}

Driver::Driver(CloneTag, memory::GuestMemory memory, DriverOptions options)
    : memory_(std::move(memory)), options_(options) {
  Result<sys::EventFd> kick = sys::EventFd::Create();
  Result<sys::EventFd> call = sys::EventFd::Create();
  CHECK(kick.has_value() && call.has_value());
  kick_ = *std::move(kick);
  call_ = *std::move(call);
}

Driver::Driver(memory::GuestMemory memory, DriverOptions options)
    : Driver(CloneTag{}, std::move(memory), options) {
  const uint64_t size = options_.size;
  bump_ = *AlignUp<uint64_t>(options_.area.value(), 16);
  area_end_ = options_.area.value() + options_.area_size;
  addresses_.descriptors = AllocateBuffer(16 * size);
  addresses_.driver = AllocateBuffer(options_.packed ? 4 : 6 + 2 * size);
  addresses_.device = AllocateBuffer(options_.packed ? 4 : 6 + 8 * size);
  bump_start_ = bump_;
  // A new queue starts from zeroes, whoever used the memory before.
  memory_.Slice(options_.area, bump_ - options_.area.value())->Zero();
  for (uint16_t i = options_.size; i-- > 0;) free_.push_back(i);
  free_slots_ = options_.size;
}

memory::GuestMemory Driver::MakeMemory(uint64_t size) {
  const memory::RegionLayout layout[] = {{GuestAddr(0), size}};
  Result<memory::GuestMemory> made = memory::GuestMemory::Create(layout);
  CHECK(made.has_value());
  return *std::move(made);
}

GuestAddr Driver::AllocateBuffer(uint64_t size) {
  const GuestAddr at(bump_);
  bump_ = *AlignUp<uint64_t>(bump_ + size, 16);
  CHECK(bump_ <= area_end_, "the test driver's area is full");
  return at;
}

GuestAddr Driver::Allocate(uint64_t size) {
  area_end_ = AlignDown<uint64_t>(area_end_ - size, 16);
  CHECK(bump_ <= area_end_, "the test driver's area is full");
  return GuestAddr(area_end_);
}

uint64_t Driver::features() const {
  uint64_t features = FeatureBit(VIRTIO_F_VERSION_1) | options_.extra_features;
  if (options_.packed) features |= FeatureBit(VIRTIO_F_RING_PACKED);
  if (options_.event_idx) features |= FeatureBit(VIRTIO_RING_F_EVENT_IDX);
  if (options_.indirect) features |= FeatureBit(VIRTIO_RING_F_INDIRECT_DESC);
  return features;
}

QueueConfig Driver::MakeConfig() const {
  return {.size = options_.size, .addresses = addresses_, .features = features()};
}

Queue Driver::MakeQueue(std::unique_ptr<InflightQueue> inflight, RingPosition position) {
  QueueConfig config = MakeConfig();
  config.position = position;
  // As a device is given them.
  Result<sys::UniqueFd> kick = kick_.fd().Dup();
  Result<sys::UniqueFd> call = call_.fd().Dup();
  CHECK(kick.has_value() && call.has_value());
  Result<Queue> queue = Queue::Create(memory_, config, sys::EventFd::Adopt(*std::move(kick)),
                                      sys::EventFd::Adopt(*std::move(call)), std::move(inflight));
  CHECK(queue.has_value(), "{}", queue.error().ToString());
  return *std::move(queue);
}

Driver Driver::Clone() const {
  Driver clone(CloneTag{}, memory_, options_);
  clone.addresses_ = addresses_;
  clone.area_end_ = area_end_;
  clone.bump_start_ = bump_start_;
  clone.bump_ = bump_;
  clone.outstanding_ = outstanding_;
  clone.free_ = free_;
  clone.avail_ = avail_;
  clone.kicked_avail_ = kicked_avail_;
  clone.published_avail_ = published_avail_;
  clone.next_used_ = next_used_;
  clone.slot_ = slot_;
  clone.slot_wrap_ = slot_wrap_;
  clone.used_wrap_ = used_wrap_;
  clone.free_slots_ = free_slots_;
  clone.staged_ = staged_;
  clone.kicked_ = kicked_;
  return clone;
}

uint16_t Driver::Stage(const ChainSpec& spec) {
  std::vector<ChainSpec::Buffer> buffers = spec.buffers_;
  CHECK(!buffers.empty());
  Outstanding record;
  for (const ChainSpec::Buffer& buffer : buffers) {
    if ((buffer.flags & VRING_DESC_F_WRITE) != 0) record.writable.push_back(buffer);
  }
  if (spec.indirect_) {
    const GuestAddr table = AllocateBuffer(16 * buffers.size());
    for (size_t i = 0; i < buffers.size(); ++i) {
      const bool last = i + 1 == buffers.size();
      const auto linked = static_cast<uint16_t>(buffers[i].flags | (last ? 0 : VRING_DESC_F_NEXT));
      const RawDescriptor raw{
          .address = buffers[i].address,
          .length = buffers[i].length,
          .third = options_.packed ? uint16_t{0} : linked,
          .fourth = options_.packed ? buffers[i].flags : static_cast<uint16_t>(last ? 0 : i + 1)};
      CHECK(memory_.Write(At(table, 16 * i), raw));
    }
    buffers = {{table.value(), static_cast<uint32_t>(16 * buffers.size()), VRING_DESC_F_INDIRECT}};
  }
  const uint16_t id = options_.packed ? StagePacked(std::move(buffers), record)
                                      : StageSplit(std::move(buffers), record);
  CHECK(outstanding_.emplace(id, std::move(record)).second);
  return id;
}

uint16_t Driver::StageSplit(std::vector<ChainSpec::Buffer> buffers, Outstanding& record) {
  CHECK(buffers.size() <= free_.size(), "the test driver's ring is full");
  for (size_t i = 0; i < buffers.size(); ++i) {
    record.slots.push_back(free_.back());
    free_.pop_back();
  }
  for (size_t i = 0; i < buffers.size(); ++i) {
    const bool last = i + 1 == buffers.size();
    PokeDescriptor(record.slots[i], buffers[i].address, buffers[i].length,
                   static_cast<uint16_t>(buffers[i].flags | (last ? 0 : VRING_DESC_F_NEXT)),
                   last ? uint16_t{0} : record.slots[i + 1]);
  }
  PokeAvailable(record.slots[0]);
  return record.slots[0];
}

void Driver::PokeDescriptor(uint16_t slot, uint64_t address, uint32_t length, uint16_t third,
                            uint16_t fourth) {
  const RawDescriptor raw{.address = address, .length = length, .third = third, .fourth = fourth};
  CHECK(memory_.Write(At(addresses_.descriptors, uint64_t{16} * slot), raw));
}

void Driver::PokeAvailable(uint16_t head) {
  const uint64_t place = avail_ & (options_.size - 1);
  CHECK(memory_.Write(At(addresses_.driver, 4 + 2 * place), Le16(head)));
  ++avail_;
}

void Driver::PokeAvailIndex(uint16_t index) {
  // ORDERING: release: descriptors and ring entry are visible first.
  memory_.Cell<uint16_t>(At(addresses_.driver, 2))->StoreRelease(index);
}

uint16_t Driver::StagePacked(std::vector<ChainSpec::Buffer> buffers, Outstanding& record) {
  CHECK(buffers.size() <= free_slots_ && !free_.empty(), "the test driver's ring is full");
  const uint16_t id = free_.back();
  free_.pop_back();
  record.slot_count = static_cast<uint16_t>(buffers.size());
  free_slots_ = static_cast<uint16_t>(free_slots_ - buffers.size());
  for (size_t i = 0; i < buffers.size(); ++i) {
    const bool last = i + 1 == buffers.size();
    const uint16_t lap = slot_wrap_ ? kAvailBit : kUsedBit;
    const auto flags =
        static_cast<uint16_t>(buffers[i].flags | lap | (last ? 0 : VRING_DESC_F_NEXT));
    // The head's flags make the chain visible; they are stored by Publish().
    const uint16_t hidden = slot_wrap_ ? 0 : kAvailBit | kUsedBit;
    PokeDescriptor(slot_, buffers[i].address, buffers[i].length, id, i == 0 ? hidden : flags);
    if (i == 0) staged_.push_back({slot_, flags});
    if (++slot_ == options_.size) {
      slot_ = 0;
      slot_wrap_ = !slot_wrap_;
    }
  }
  return id;
}

void Driver::Publish() {
  if (!options_.packed) {
    PokeAvailIndex(avail_);
    published_avail_ = avail_;
    return;
  }
  for (const StagedHead& head : staged_) {
    // ORDERING: release: the rest of the chain is visible first.
    memory_.Cell<uint16_t>(At(addresses_.descriptors, uint64_t{16} * head.slot + 14))
        ->StoreRelease(head.flags);
  }
  staged_.clear();
}

bool Driver::KickWanted() {
  memory::FullFence();
  if (!options_.packed) {
    const uint16_t before = std::exchange(kicked_avail_, published_avail_);
    if (!options_.event_idx) {
      return (memory_.Cell<uint16_t>(addresses_.device)->LoadRelaxed() & VRING_USED_F_NO_NOTIFY) ==
             0;
    }
    const uint16_t event =
        memory_.Cell<uint16_t>(At(addresses_.device, 4 + uint64_t{8} * options_.size))
            ->LoadRelaxed();
    return static_cast<uint16_t>(published_avail_ - event - 1) <
           static_cast<uint16_t>(published_avail_ - before);
  }
  const Place before = std::exchange(kicked_, Place{slot_, slot_wrap_});
  const uint32_t wish = memory_.Cell<uint32_t>(addresses_.device)->LoadRelaxed();
  const uint32_t flags = wish >> 16;
  if (flags != VRING_PACKED_EVENT_FLAG_DESC) return flags == VRING_PACKED_EVENT_FLAG_ENABLE;
  const auto distance = [&](int slot, bool wrap) {
    return slot + (wrap == before.wrap ? 0 : options_.size) - before.slot;
  };
  const int event = distance(static_cast<int>(wish & 0x7fff), (wish & 0x8000) != 0);
  return event >= 0 && event < distance(slot_, slot_wrap_);
}

std::optional<std::pair<uint16_t, uint32_t>> Driver::NextUsedSplit() {
  if (used_index() == next_used_) return std::nullopt;
  const uint64_t place = next_used_ & (options_.size - 1);
  const GuestAddr at = At(addresses_.device, 4 + 8 * place);
  ++next_used_;
  return std::pair(static_cast<uint16_t>(memory_.Read<Le32>(at)->value()),
                   memory_.Read<Le32>(At(at, 4))->value());
}

uint16_t Driver::used_index() const {
  return memory_.Cell<uint16_t>(At(addresses_.device, 2))->LoadAcquire();
}

std::optional<std::pair<uint16_t, uint32_t>> Driver::NextUsedPacked() {
  const GuestAddr at = At(addresses_.descriptors, uint64_t{16} * next_used_);
  const uint16_t flags = memory_.Cell<uint16_t>(At(at, 14))->LoadAcquire();
  const bool avail = (flags & kAvailBit) != 0;
  const bool used = (flags & kUsedBit) != 0;
  if (avail != used || used != used_wrap_) return std::nullopt;
  const RawDescriptor raw = *memory_.Read<RawDescriptor>(at);
  return std::pair(raw.third.value(),
                   (flags & VRING_DESC_F_WRITE) != 0 ? raw.length.value() : uint32_t{0});
}

std::optional<Used> Driver::NextUsed() {
  const auto element = options_.packed ? NextUsedPacked() : NextUsedSplit();
  if (!element) return std::nullopt;
  const auto found = outstanding_.find(element->first);
  CHECK(found != outstanding_.end(), "the device completed {}, which is not outstanding",
        element->first);
  const Outstanding record = std::move(found->second);
  outstanding_.erase(found);
  Used used{.id = element->first, .written = element->second};
  for (const ChainSpec::Buffer& buffer : record.writable) {
    const auto slice = memory_.Slice(GuestAddr(buffer.address), buffer.length);
    if (!slice) continue;
    const size_t before = used.data.size();
    used.data.resize(before + buffer.length);
    slice->CopyTo(std::span(used.data).subspan(before));
  }
  if (options_.packed) {
    free_.push_back(element->first);
    free_slots_ = static_cast<uint16_t>(free_slots_ + record.slot_count);
    next_used_ = static_cast<uint16_t>(next_used_ + record.slot_count);
    if (next_used_ >= options_.size) {
      next_used_ = static_cast<uint16_t>(next_used_ - options_.size);
      used_wrap_ = !used_wrap_;
    }
  } else {
    free_.insert(free_.end(), record.slots.rbegin(), record.slots.rend());
  }
  // Buffers are never freed one by one; with nothing outstanding all of them are free.
  if (outstanding_.empty()) bump_ = bump_start_;
  return used;
}

std::vector<Used> Driver::AllUsed() {
  std::vector<Used> all;
  while (std::optional<Used> used = NextUsed()) all.push_back(*std::move(used));
  return all;
}

std::optional<Used> Driver::AwaitUsed(std::chrono::milliseconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (true) {
    if (std::optional<Used> used = NextUsed()) return used;
    EnableInterrupts(true);
    // What came before the wish was visible interrupts nobody.
    if (std::optional<Used> used = NextUsed()) return used;
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    pollfd wait{.fd = call_.fd().get(), .events = POLLIN, .revents = 0};
    if (left.count() <= 0 || poll(&wait, 1, static_cast<int>(left.count())) == 0) {
      return std::nullopt;
    }
    Interrupts();
  }
}

void Driver::EnableInterrupts(bool on) {
  if (options_.packed) {
    const uint32_t flags = on ? VRING_PACKED_EVENT_FLAG_ENABLE : VRING_PACKED_EVENT_FLAG_DISABLE;
    memory_.Cell<uint32_t>(addresses_.driver)->StoreRelaxed(flags << 16);
  } else if (options_.event_idx) {
    const auto event = static_cast<uint16_t>(on ? next_used_ : next_used_ - 1);
    memory_.Cell<uint16_t>(At(addresses_.driver, 4 + uint64_t{2} * options_.size))
        ->StoreRelaxed(event);
  } else {
    memory_.Cell<uint16_t>(addresses_.driver)
        ->StoreRelaxed(on ? uint16_t{0} : uint16_t{VRING_AVAIL_F_NO_INTERRUPT});
  }
  memory::FullFence();
}

void Driver::InterruptAfter(uint16_t chains) {
  CHECK(options_.event_idx && chains > 0);
  const auto skip = static_cast<uint16_t>(chains - 1);
  if (!options_.packed) {
    memory_.Cell<uint16_t>(At(addresses_.driver, 4 + uint64_t{2} * options_.size))
        ->StoreRelaxed(static_cast<uint16_t>(next_used_ + skip));
  } else {
    uint32_t slot = uint32_t{next_used_} + skip;
    bool wrap = used_wrap_;
    if (slot >= options_.size) {
      slot -= options_.size;
      wrap = !wrap;
    }
    const uint32_t wish =
        slot | (wrap ? 0x8000u : 0u) | (uint32_t{VRING_PACKED_EVENT_FLAG_DESC} << 16);
    memory_.Cell<uint32_t>(addresses_.driver)->StoreRelaxed(wish);
  }
  memory::FullFence();
}

}  // namespace crosvm::virtio::testing

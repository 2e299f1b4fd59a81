#include "virtio/inflight.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "base/check.h"
#include "base/checked_math.h"

namespace crosvm::virtio {
namespace {

constexpr uint16_t kVersion = 1;

// vhost-user, "Inflight I/O tracking". Native byte order: both sides are on one host.
struct SplitEntry {
  uint8_t inflight;
  uint8_t padding[5];
  uint16_t next;
  uint64_t counter;
};
static_assert(sizeof(SplitEntry) == 16);

struct SplitHeader {
  uint64_t features;
  uint16_t version;
  uint16_t desc_num;
  uint16_t last_batch_head;
  uint16_t used_idx;
};
static_assert(sizeof(SplitHeader) == 16);

struct PackedEntry {
  uint8_t inflight;
  uint8_t padding;
  uint16_t next;
  uint16_t last;
  uint16_t num;
  uint64_t counter;
  uint16_t id;
  uint16_t flags;
  uint32_t len;
  uint64_t addr;
};
static_assert(sizeof(PackedEntry) == 32);

struct PackedHeader {
  uint64_t features;
  uint16_t version;
  uint16_t desc_num;
  uint16_t free_head;
  uint16_t old_free_head;
  uint16_t used_idx;
  uint16_t old_used_idx;
  uint8_t used_wrap_counter;
  uint8_t old_used_wrap_counter;
  uint8_t padding[10];
};
static_assert(sizeof(PackedHeader) == 32);
static_assert(offsetof(SplitHeader, version) == offsetof(PackedHeader, version));
static_assert(offsetof(SplitHeader, desc_num) == offsetof(PackedHeader, desc_num));

uint64_t UnalignedBytes(uint16_t queue_size, bool packed) {
  if (packed) return sizeof(PackedHeader) + sizeof(PackedEntry) * uint64_t{queue_size};
  return sizeof(SplitHeader) + sizeof(SplitEntry) * uint64_t{queue_size};
}

}  // namespace

uint64_t InflightQueue::BytesPerQueue(uint16_t queue_size, bool packed) {
  return *AlignUp<uint64_t>(UnalignedBytes(queue_size, packed), 64);
}

Result<std::unique_ptr<InflightQueue>> InflightQueue::Create(
    std::shared_ptr<sys::MappedRegion> region, uint64_t offset, uint16_t queue_size, bool packed) {
  if (queue_size == 0 || !IsAligned<uint64_t>(offset, 8) ||
      !RangeFits<uint64_t>(offset, BytesPerQueue(queue_size, packed), region->size())) {
    return Fail(ErrorKind::kInvalidArgument,
                "in-flight records of {} descriptors do not fit at {:#x} of {:#x} bytes",
                queue_size, offset, region->size());
  }
  std::unique_ptr<InflightQueue> queue(new InflightQueue());
  queue->base_ = region->data() + offset;
  queue->region_ = std::move(region);
  queue->size_ = queue_size;
  queue->packed_ = packed;
  if (packed) {
    queue->next_.resize(queue_size);
    queue->last_.resize(queue_size);
  }
  return queue;
}

InflightQueue::~InflightQueue() = default;

template <typename T>
T InflightQueue::Load(uint64_t offset) const {
  // SAFETY: offsets are made of entry numbers below size_, and Create has checked the whole part;
  // all are aligned. ORDERING: the peer that wrote it is dead; relaxed, but one access.
  return __atomic_load_n(reinterpret_cast<const T*>(base_ + offset), __ATOMIC_RELAXED);
}

template <typename T>
void InflightQueue::Store(uint64_t offset, T value) {
  // SAFETY: as Load.
  // ORDERING: release, so that no earlier store (here or to the ring) is done after this one: a
  // successor must see a state that the protocol knows.
  __atomic_store_n(reinterpret_cast<T*>(base_ + offset), value, __ATOMIC_RELEASE);
}

uint64_t InflightQueue::Entry(uint16_t index) const {
  DCHECK(index < size_);
  return packed_ ? sizeof(PackedHeader) + sizeof(PackedEntry) * uint64_t{index}
                 : sizeof(SplitHeader) + sizeof(SplitEntry) * uint64_t{index};
}

bool InflightQueue::fresh() const {
  return Load<uint16_t>(offsetof(SplitHeader, version)) == 0;
}

void InflightQueue::Clear() {
  Store<uint16_t>(offsetof(SplitHeader, version), 0);
  std::memset(base_, 0, UnalignedBytes(size_, packed_));
}

void InflightQueue::StartSplit(uint16_t used_index) {
  Store<uint16_t>(offsetof(SplitHeader, desc_num), size_);
  Store<uint16_t>(offsetof(SplitHeader, used_idx), used_index);
  Store<uint16_t>(offsetof(SplitHeader, version), kVersion);
}

void InflightQueue::Taken(uint16_t id) {
  Store<uint64_t>(Entry(id) + offsetof(SplitEntry, counter), counter_++);
  Store<uint8_t>(Entry(id) + offsetof(SplitEntry, inflight), 1);
}

void InflightQueue::Undone(uint16_t id) {
  Store<uint8_t>(Entry(id) + offsetof(SplitEntry, inflight), 0);
}

void InflightQueue::BeforePublish(uint16_t id) {
  const auto head = Load<uint16_t>(offsetof(SplitHeader, last_batch_head));
  Store<uint16_t>(Entry(id) + offsetof(SplitEntry, next), head);
  Store<uint16_t>(offsetof(SplitHeader, last_batch_head), id);
}

void InflightQueue::AfterPublish(std::span<const uint16_t> batch, uint16_t used_index) {
  for (const uint16_t id : batch) Store<uint8_t>(Entry(id) + offsetof(SplitEntry, inflight), 0);
  Store<uint16_t>(offsetof(SplitHeader, used_idx), used_index);
}

std::vector<uint16_t> InflightQueue::Recover(uint16_t used_index) {
  const auto recorded = Load<uint16_t>(offsetof(SplitHeader, used_idx));
  auto batch = static_cast<uint16_t>(used_index - recorded);
  if (batch > size_) batch = size_;
  // The predecessor died after it had published the last batch and before it had cleared the
  // records.
  auto id = Load<uint16_t>(offsetof(SplitHeader, last_batch_head));
  for (; batch > 0 && id < size_; --batch) {
    Store<uint8_t>(Entry(id) + offsetof(SplitEntry, inflight), 0);
    id = Load<uint16_t>(Entry(id) + offsetof(SplitEntry, next));
  }
  Store<uint16_t>(offsetof(SplitHeader, used_idx), used_index);

  std::vector<std::pair<uint64_t, uint16_t>> found;
  for (uint16_t i = 0; i < size_; ++i) {
    if (Load<uint8_t>(Entry(i) + offsetof(SplitEntry, inflight)) == 0) continue;
    found.emplace_back(Load<uint64_t>(Entry(i) + offsetof(SplitEntry, counter)), i);
  }
  std::sort(found.begin(), found.end());
  std::vector<uint16_t> ids;
  ids.reserve(found.size());
  for (const auto& [counter, i] : found) ids.push_back(i);
  if (!found.empty()) counter_ = found.back().first + 1;
  return ids;
}

void InflightQueue::StartPacked(PackedUsedPosition used) {
  for (uint16_t i = 0; i < size_; ++i) {
    // The last one's link is no entry: the list ends there.
    next_[i] = static_cast<uint16_t>(i + 1);
    Store<uint16_t>(Entry(i) + offsetof(PackedEntry, next), next_[i]);
    Store<uint8_t>(Entry(i) + offsetof(PackedEntry, inflight), 0);
  }
  free_head_ = 0;
  Store<uint16_t>(offsetof(PackedHeader, free_head), 0);
  Store<uint16_t>(offsetof(PackedHeader, old_free_head), 0);
  Store<uint16_t>(offsetof(PackedHeader, used_idx), used.index);
  Store<uint16_t>(offsetof(PackedHeader, old_used_idx), used.index);
  Store<uint8_t>(offsetof(PackedHeader, used_wrap_counter), used.wrap ? 1 : 0);
  Store<uint8_t>(offsetof(PackedHeader, old_used_wrap_counter), used.wrap ? 1 : 0);
  Store<uint16_t>(offsetof(PackedHeader, desc_num), size_);
  Store<uint16_t>(offsetof(PackedHeader, version), kVersion);
}

uint16_t InflightQueue::TakenPacked(std::span<const PackedDescriptor> descriptors) {
  const uint16_t head = free_head_;
  const uint64_t head_entry = Entry(head);
  Store<uint16_t>(head_entry + offsetof(PackedEntry, num), 0);
  Store<uint64_t>(head_entry + offsetof(PackedEntry, counter), counter_++);
  Store<uint8_t>(head_entry + offsetof(PackedEntry, inflight), 1);
  uint16_t count = 0;
  for (const PackedDescriptor& descriptor : descriptors) {
    const uint16_t place = free_head_;
    ++count;
    if (count == descriptors.size()) {
      last_[head] = place;
      Store<uint16_t>(head_entry + offsetof(PackedEntry, last), place);
    }
    Store<uint16_t>(head_entry + offsetof(PackedEntry, num), count);
    const uint64_t entry = Entry(place);
    Store<uint64_t>(entry + offsetof(PackedEntry, addr), descriptor.address);
    Store<uint32_t>(entry + offsetof(PackedEntry, len), descriptor.length);
    Store<uint16_t>(entry + offsetof(PackedEntry, flags), descriptor.flags);
    Store<uint16_t>(entry + offsetof(PackedEntry, id), descriptor.id);
    free_head_ = Next(place);
    Store<uint16_t>(offsetof(PackedHeader, free_head), free_head_);
  }
  // From here a successor counts the request as taken.
  Store<uint16_t>(offsetof(PackedHeader, old_free_head), free_head_);
  return head;
}

void InflightQueue::FreeChain(uint16_t entry) {
  next_[last_[entry]] = free_head_;
  Store<uint16_t>(Entry(last_[entry]) + offsetof(PackedEntry, next), free_head_);
  free_head_ = entry;
  Store<uint16_t>(offsetof(PackedHeader, free_head), free_head_);
}

void InflightQueue::UndonePacked(uint16_t entry) {
  Store<uint8_t>(Entry(entry) + offsetof(PackedEntry, inflight), 0);
  FreeChain(entry);
  Store<uint16_t>(offsetof(PackedHeader, old_free_head), free_head_);
}

void InflightQueue::BeforePublishPacked(std::span<const uint16_t> batch, PackedUsedPosition used) {
  for (const uint16_t entry : batch) FreeChain(entry);
  Store<uint16_t>(offsetof(PackedHeader, used_idx), used.index);
  Store<uint8_t>(offsetof(PackedHeader, used_wrap_counter), used.wrap ? 1 : 0);
}

void InflightQueue::AfterPublishPacked(std::span<const uint16_t> batch) {
  for (const uint16_t entry : batch)
    Store<uint8_t>(Entry(entry) + offsetof(PackedEntry, inflight), 0);
  Store<uint16_t>(offsetof(PackedHeader, old_free_head), free_head_);
  Store<uint16_t>(offsetof(PackedHeader, old_used_idx),
                  Load<uint16_t>(offsetof(PackedHeader, used_idx)));
  Store<uint8_t>(offsetof(PackedHeader, old_used_wrap_counter),
                 Load<uint8_t>(offsetof(PackedHeader, used_wrap_counter)));
}

PackedUsedPosition InflightQueue::OldUsed() const {
  return {.index = Load<uint16_t>(offsetof(PackedHeader, old_used_idx)),
          .wrap = Load<uint8_t>(offsetof(PackedHeader, old_used_wrap_counter)) != 0};
}

Result<std::vector<PackedInflight>> InflightQueue::RecoverPacked(bool published,
                                                                 PackedUsedPosition& used) {
  const PackedUsedPosition next_used = {
      .index = Load<uint16_t>(offsetof(PackedHeader, used_idx)),
      .wrap = Load<uint8_t>(offsetof(PackedHeader, used_wrap_counter)) != 0};
  used = OldUsed();
  auto free = Load<uint16_t>(offsetof(PackedHeader, old_free_head));
  const bool in_publish = next_used.index != used.index || next_used.wrap != used.wrap;
  if (in_publish && published) {
    used = next_used;
    free = Load<uint16_t>(offsetof(PackedHeader, free_head));
  }
  if (used.index >= size_) {
    return Fail(ErrorKind::kProtocol, "in-flight records name used index {} of {}", used.index,
                size_);
  }

  // TRUST: the links are the peer's; each entry is visited once. What is in the list is not in
  // flight, even when its flag says so: its taking was not finished, or its publishing was.
  std::vector<bool> is_free(size_);
  while (free < size_ && !is_free[free]) {
    is_free[free] = true;
    free = Load<uint16_t>(Entry(free) + offsetof(PackedEntry, next));
  }

  std::vector<PackedInflight> found;
  std::vector<bool> owned(size_);
  for (uint16_t head = 0; head < size_; ++head) {
    if (is_free[head] || Load<uint8_t>(Entry(head) + offsetof(PackedEntry, inflight)) == 0)
      continue;
    PackedInflight request{.entry = head,
                           .counter = Load<uint64_t>(Entry(head) + offsetof(PackedEntry, counter))};
    const auto count = Load<uint16_t>(Entry(head) + offsetof(PackedEntry, num));
    uint16_t place = head;
    for (uint16_t i = 0; i < count; ++i) {
      if (place >= size_ || owned[place]) {
        return Fail(ErrorKind::kProtocol, "in-flight record {} is not a chain", head);
      }
      owned[place] = true;
      const uint64_t entry = Entry(place);
      request.descriptors.push_back(
          {.address = Load<uint64_t>(entry + offsetof(PackedEntry, addr)),
           .length = Load<uint32_t>(entry + offsetof(PackedEntry, len)),
           .id = Load<uint16_t>(entry + offsetof(PackedEntry, id)),
           .flags = Load<uint16_t>(entry + offsetof(PackedEntry, flags))});
      last_[head] = place;
      const auto next = Load<uint16_t>(entry + offsetof(PackedEntry, next));
      next_[place] = std::min(next, size_);
      place = next;
    }
    if (count == 0) return Fail(ErrorKind::kProtocol, "in-flight record {} is empty", head);
    found.push_back(std::move(request));
  }
  std::sort(found.begin(), found.end(),
            [](const PackedInflight& a, const PackedInflight& b) { return a.counter < b.counter; });
  if (!found.empty()) counter_ = found.back().counter + 1;

  // The free list is built anew from what no request owns. First the flags, then the links:
  // whatever part of the list somebody finds who comes after a death in here, nothing in it is in
  // flight.
  for (uint16_t i = 0; i < size_; ++i) {
    if (!owned[i]) Store<uint8_t>(Entry(i) + offsetof(PackedEntry, inflight), 0);
  }
  free_head_ = size_;
  for (uint16_t i = size_; i-- > 0;) {
    if (owned[i]) continue;
    next_[i] = free_head_;
    Store<uint16_t>(Entry(i) + offsetof(PackedEntry, next), free_head_);
    free_head_ = i;
  }
  Store<uint16_t>(offsetof(PackedHeader, old_free_head), free_head_);
  Store<uint16_t>(offsetof(PackedHeader, free_head), free_head_);
  Store<uint16_t>(offsetof(PackedHeader, old_used_idx), used.index);
  Store<uint8_t>(offsetof(PackedHeader, old_used_wrap_counter), used.wrap ? 1 : 0);
  Store<uint16_t>(offsetof(PackedHeader, used_idx), used.index);
  Store<uint8_t>(offsetof(PackedHeader, used_wrap_counter), used.wrap ? 1 : 0);
  return found;
}

}  // namespace crosvm::virtio

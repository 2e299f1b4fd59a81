#include "resources/address_allocator.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <utility>

#include "base/checked_math.h"

namespace crosvm::resources {

AddressAllocator::AddressAllocator(std::string name, AddressRange pool, uint64_t alignment)
    : name_(std::move(name)), pool_(pool), alignment_(alignment) {
  free_.emplace(pool.start, pool.last());
}

Result<AddressAllocator> AddressAllocator::Create(std::string name, AddressRange pool,
                                                  uint64_t alignment) {
  if (pool.size == 0 || !CheckedAdd(pool.start, pool.size - 1)) {
    return Fail(ErrorKind::kInvalidArgument, "{}: {:#x} bytes at {:#x} are not a range", name,
                pool.size, pool.start);
  }
  if (!std::has_single_bit(alignment)) {
    return Fail(ErrorKind::kInvalidArgument, "{}: alignment {:#x} is not a power of two", name,
                alignment);
  }
  return AddressAllocator(std::move(name), pool, alignment);
}

Status AddressAllocator::CheckRequest(uint64_t size, uint64_t alignment) const {
  if (size == 0) return Fail(ErrorKind::kInvalidArgument, "{}: a range of 0 bytes", name_);
  if (!std::has_single_bit(alignment)) {
    return Fail(ErrorKind::kInvalidArgument, "{}: alignment {:#x} is not a power of two", name_,
                alignment);
  }
  return {};
}

Result<AddressRange> AddressAllocator::Allocate(uint64_t size, uint64_t alignment,
                                                std::string tag) {
  TRY(CheckRequest(size, alignment));
  const uint64_t step = std::max(alignment, alignment_);
  for (const auto& [first, last] : free_) {
    const std::optional<uint64_t> start = AlignUp(first, step);
    if (!start || *start > last || last - *start < size - 1) continue;
    return Take(first, {.start = *start, .size = size}, std::move(tag));
  }
  return Fail(ErrorKind::kBusy, "{}: no room for {:#x} bytes aligned to {:#x} for {}", name_, size,
              step, tag);
}

Result<AddressRange> AddressAllocator::AllocateHigh(uint64_t size, uint64_t alignment,
                                                    std::string tag) {
  TRY(CheckRequest(size, alignment));
  const uint64_t step = std::max(alignment, alignment_);
  for (auto range = free_.rbegin(); range != free_.rend(); ++range) {
    const auto [first, last] = *range;
    if (last - first < size - 1) continue;
    const uint64_t start = AlignDown(last - (size - 1), step);
    if (start < first) continue;
    return Take(first, {.start = start, .size = size}, std::move(tag));
  }
  return Fail(ErrorKind::kBusy, "{}: no room for {:#x} bytes aligned to {:#x} for {}", name_, size,
              step, tag);
}

Status AddressAllocator::AllocateAt(AddressRange range, std::string tag) {
  TRY(CheckRequest(range.size, 1));
  if (range.start < pool_.start || !RangeFits(range.start - pool_.start, range.size, pool_.size)) {
    return Fail(ErrorKind::kInvalidArgument,
                "{}: {:#x} bytes at {:#x} for {} are outside {:#x}-{:#x}", name_, range.size,
                range.start, tag, pool_.start, pool_.last());
  }
  auto found = free_.upper_bound(range.start);
  if (found != free_.begin() && std::prev(found)->second >= range.last()) {
    Take(std::prev(found)->first, range, std::move(tag));
    return {};
  }
  // The owner in the way starts inside the range, or is the last that starts before it.
  auto owner = allocations_.upper_bound(range.last());
  const std::string_view owner_tag =
      owner == allocations_.begin() ? std::string_view("another") : std::prev(owner)->second.tag;
  return Fail(ErrorKind::kBusy, "{}: {:#x}-{:#x} for {} is taken by {}", name_, range.start,
              range.last(), tag, owner_tag);
}

AddressRange AddressAllocator::Take(uint64_t free_start, AddressRange range, std::string tag) {
  const uint64_t free_last = free_.at(free_start);
  if (range.start == free_start) {
    free_.erase(free_start);
  } else {
    free_[free_start] = range.start - 1;
  }
  if (range.last() != free_last) free_.emplace(range.last() + 1, free_last);
  allocations_.emplace(range.start, Allocation{.range = range, .tag = std::move(tag)});
  return range;
}

Status AddressAllocator::Release(uint64_t start) {
  const auto found = allocations_.find(start);
  if (found == allocations_.end()) {
    return Fail(ErrorKind::kNotFound, "{}: nothing was allocated at {:#x}", name_, start);
  }
  uint64_t first = start;
  uint64_t last = found->second.range.last();
  allocations_.erase(found);
  auto above = free_.upper_bound(first);
  if (above != free_.begin()) {
    const auto below = std::prev(above);
    if (below->second == first - 1) {  // below->second < first, so first > 0
      first = below->first;
      free_.erase(below);
    }
  }
  if (above != free_.end() && above->first - 1 == last) {  // above->first > last >= 0
    last = above->second;
    free_.erase(above);
  }
  free_.emplace(first, last);
  return {};
}

const AddressAllocator::Allocation* AddressAllocator::Find(uint64_t address) const {
  auto found = allocations_.upper_bound(address);
  if (found == allocations_.begin()) return nullptr;
  --found;
  return found->second.range.Contains(address) ? &found->second : nullptr;
}

Result<uint64_t> AddressAllocator::AddressInside(uint64_t start, uint64_t offset,
                                                 uint64_t size) const {
  const auto found = allocations_.find(start);
  if (found == allocations_.end()) {
    return Fail(ErrorKind::kNotFound, "{}: nothing was allocated at {:#x}", name_, start);
  }
  if (!RangeFits(offset, size, found->second.range.size)) {
    return Fail(ErrorKind::kInvalidArgument, "{}: {:#x} bytes at offset {:#x} are outside {}",
                name_, size, offset, found->second.tag);
  }
  return start + offset;
}

uint64_t AddressAllocator::free_bytes() const {
  uint64_t total = 0;
  for (const auto& [first, last] : free_) total += last - first + 1;
  return total;
}

}  // namespace crosvm::resources

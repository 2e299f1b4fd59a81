// Hands out ranges of one address space: guest-physical windows for BARs and pmem, I/O ports. Used
// by vm/, pci/ and virtio/ in the VMM. Not thread-safe: the owner locks (hotplug and set-up run on
// the main loop).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "base/result.h"

namespace crosvm::resources {

struct AddressRange {
  uint64_t start = 0;
  uint64_t size = 0;  // > 0; start + size - 1 does not overflow

  uint64_t last() const { return start + (size - 1); }
  bool Contains(uint64_t address) const { return address >= start && address - start < size; }
  friend bool operator==(const AddressRange&, const AddressRange&) = default;
};

class AddressAllocator {
 public:
  struct Allocation {
    AddressRange range;
    std::string tag;  // for messages and dumps: "00:03.0 BAR 0"
  };

  // `name` appears in errors: "low MMIO". `alignment` is a power of two and the least one of every
  // Allocate(). kInvalidArgument for an empty or overflowing pool or a wrong alignment.
  static Result<AddressAllocator> Create(std::string name, AddressRange pool, uint64_t alignment);

  // The lowest free range that fits. `alignment` is a power of two; the pool's holds when it is
  // larger. `tag` names the owner. kInvalidArgument for size 0 or a wrong alignment, kBusy when
  // nothing fits.
  Result<AddressRange> Allocate(uint64_t size, uint64_t alignment, std::string tag);
  // As Allocate(), but from the top: the highest free range that fits.
  Result<AddressRange> AllocateHigh(uint64_t size, uint64_t alignment, std::string tag);
  // Exactly `range`, whatever its alignment. kBusy, naming the owner in the way, when a part of it
  // is taken; kInvalidArgument when it is not in the pool.
  Status AllocateAt(AddressRange range, std::string tag);
  // Gives back the allocation that starts at `start` and merges it with free neighbours. kNotFound
  // when none does.
  Status Release(uint64_t start);

  // The allocation that holds `address`, or null. Valid until the next change.
  const Allocation* Find(uint64_t address) const;
  // The range of BAR accesses is checked with this: `offset` and `size` bytes lie wholly inside the
  // allocation that starts at `start` (one that ends exactly at its end fits).
  Result<uint64_t> AddressInside(uint64_t start, uint64_t offset, uint64_t size) const;

  const AddressRange& pool() const { return pool_; }
  uint64_t free_bytes() const;
  size_t free_ranges() const { return free_.size(); }
  const std::map<uint64_t, Allocation>& allocations() const { return allocations_; }

 private:
  AddressAllocator(std::string name, AddressRange pool, uint64_t alignment);
  Status CheckRequest(uint64_t size, uint64_t alignment) const;
  // `range` lies wholly in the free range that starts at `free_start`.
  AddressRange Take(uint64_t free_start, AddressRange range, std::string tag);

  std::string name_;
  AddressRange pool_;
  uint64_t alignment_;
  // First to last address, both inclusive, so that a pool may end at the top of the address space.
  std::map<uint64_t, uint64_t> free_;
  std::map<uint64_t, Allocation> allocations_;
};

}  // namespace crosvm::resources

// Any order of calls keeps the allocator's books: free and taken never overlap and sum up to the
// pool.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "resources/address_allocator.h"

namespace {

struct Input {
  const uint8_t* data;
  size_t size;
  bool Take(uint64_t& value) {
    if (size < sizeof(value)) return false;
    std::memcpy(&value, data, sizeof(value));
    data += sizeof(value);
    size -= sizeof(value);
    return true;
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using crosvm::resources::AddressAllocator;
  Input in{data, size};
  uint64_t start = 0, length = 0, alignment = 0;
  if (!in.Take(start) || !in.Take(length) || !in.Take(alignment)) return 0;
  auto made = AddressAllocator::Create("pool", {start, length}, alignment);
  if (!made) return 0;
  AddressAllocator& pool = *made;
  uint64_t op = 0, a = 0, b = 0;
  while (in.Take(op) && in.Take(a) && in.Take(b)) {
    switch (op % 4) {
      case 0:
        (void)pool.Allocate(a, b, "x");
        break;
      case 1:
        (void)pool.AllocateHigh(a, b, "x");
        break;
      case 2:
        (void)pool.AllocateAt({a, b}, "x");
        break;
      default:
        (void)pool.Release(a);
        break;
    }
    uint64_t taken = 0;
    uint64_t next = pool.pool().start;
    for (const auto& [base, allocation] : pool.allocations()) {
      CHECK(base >= next && pool.pool().Contains(base) &&
            pool.pool().Contains(allocation.range.last()));
      next = allocation.range.last() + 1;
      taken += allocation.range.size;
    }
    CHECK(taken + pool.free_bytes() == pool.pool().size);
  }
  return 0;
}

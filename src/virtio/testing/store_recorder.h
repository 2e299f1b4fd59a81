// Records every store to a range of memory, in order, by the CPU itself: the range is made
// read-only, each store faults, is let through as a single step, and what the range holds after it
// is kept. Proves publication orders and lets a test "die" after each store. x86-64; one recorder
// at a time, one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace crosvm::virtio::testing {

class StoreRecorder {
 public:
  struct Range {
    uint8_t* data = nullptr;  // page-aligned
    size_t size = 0;
  };
  // The contents of all ranges, one after the other.
  using State = std::vector<uint8_t>;

  // Runs `work` and returns the states: before the first store, then after each one that changed
  // something.
  static std::vector<State> Record(std::span<const Range> ranges,
                                   const std::function<void()>& work);
};

}  // namespace crosvm::virtio::testing

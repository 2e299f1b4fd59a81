// Where the characters that a guest reads from a serial port or a console come from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace crosvm::chardev {

// Made, started and destroyed on the thread of its EventLoop.
class CharSource {
 public:
  // Offers input; returns how many of the first bytes were taken. When that is not all, the rest is
  // kept, nothing more is read, and it is offered again after Resume(): nothing is lost and nothing
  // piles up.
  using Consume = std::function<size_t(std::span<const uint8_t>)>;

  virtual ~CharSource() = default;
  // Once. `consume` is called on the loop's thread until the source is destroyed.
  virtual void Start(Consume consume) = 0;
  // There is room again. Any thread, also when nothing waits.
  virtual void Resume() = 0;
};

}  // namespace crosvm::chardev

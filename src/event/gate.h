// Counts work in flight, so that a reset, a suspend or a snapshot can wait until none is left.
#pragma once

#include <cstddef>
#include <functional>
#include <utility>

#include "base/check.h"

namespace crosvm::event {

// Used on one thread.
class Gate {
 public:
  void Enter() { ++in_flight_; }
  void Leave() {
    CHECK(in_flight_ > 0);
    if (--in_flight_ == 0 && on_idle_) std::exchange(on_idle_, nullptr)();
  }
  size_t in_flight() const { return in_flight_; }

  // Calls `on_idle` once nothing is in flight: at once when that is now, else from the Leave() that
  // makes it so. One waiter at a time.
  void WhenIdle(std::function<void()> on_idle) {
    CHECK(!on_idle_);
    if (in_flight_ == 0) {
      on_idle();
    } else {
      on_idle_ = std::move(on_idle);
    }
  }

 private:
  size_t in_flight_ = 0;
  std::function<void()> on_idle_;
};

}  // namespace crosvm::event

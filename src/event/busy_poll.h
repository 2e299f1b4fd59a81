// How long to look for more work in memory before asking to be woken and sleeping, as KVM does
// before a vCPU halts and other VMMs' I/O threads do: a wake-up costs the guest an exit and the
// host a switch of threads.
//
// Learned from the sleeps. One shorter than kLongest could have been spared, so the next look lasts
// longer; a long one ends the looking altogether. A device without load thus never looks, nor does
// one whose storage is slower than that.
#pragma once

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "event/event_loop.h"

namespace crosvm::event {

// One thread's.
class BusyPoll {
 public:
  static constexpr std::chrono::microseconds kLongest{50};
  static constexpr std::chrono::microseconds kFirst{4};

  // Around each sleep.
  void SleepBegins(Clock::time_point now) { asleep_since_ = now; }
  void SleepEnds(Clock::time_point now) {
    if (!asleep_since_) return;
    const Clock::duration slept = now - *std::exchange(asleep_since_, std::nullopt);
    window_ = slept > kLongest ? Clock::duration::zero()
                               : std::clamp<Clock::duration>(2 * window_, kFirst, kLongest);
  }

  Clock::duration window() const { return window_; }

  // Calls `look` until it gives true (it has found work), or for as long as has proved useful. In
  // between others on this processor have their turn, the vCPU that is to bring the work not least.
  template <typename Look>
  bool Until(Look look) const {
    if (window_ == Clock::duration::zero()) return false;
    const Clock::time_point end = Clock::now() + window_;
    do {
      if (look()) return true;
      sched_yield();
    } while (Clock::now() < end);
    return false;
  }

 private:
  Clock::duration window_{0};
  std::optional<Clock::time_point> asleep_since_;
};

}  // namespace crosvm::event

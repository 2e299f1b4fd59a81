// How long to look for more work in memory before asking to be woken and sleeping, as KVM does
// before a vCPU halts and other VMMs' I/O threads do: a wake-up costs the guest an exit and the
// host a switch of threads.
//
// Learned from how long there was nothing to do. Had a look lasted that long, the sleep would have
// been spared, so the next one lasts longer; but where it is longer than kLongest, there is no
// looking at all. A device without load thus never looks, nor does one whose storage is slower.
//
// In between others on this processor have their turn, the vCPU that is to bring the work not
// least. The kernel may take a yield for a waiver of the whole time slice, though (EEVDF): where
// another thread uses that up, sleeping is better. On a machine with one processor the others' use
// of it is what a look waits for.
#pragma once

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "event/event_loop.h"

namespace crosvm::event {

// One thread's.
class BusyPoll {
 public:
  static constexpr std::chrono::microseconds kLongest{50};
  static constexpr std::chrono::microseconds kFirst{4};
  // A yield that takes longer has lost the processor to a thread that has much to do.
  static constexpr std::chrono::microseconds kLost{500};
  // There is no looking for so long then.
  static constexpr std::chrono::milliseconds kRest{100};

  explicit BusyPoll(unsigned processors = std::thread::hardware_concurrency())
      : alone_(processors == 1) {}

  // There is nothing to do since `now`, or still nothing.
  void WorkRanOut(Clock::time_point now) {
    if (!idle_since_) idle_since_ = now;
  }
  // There is something, which no look has found.
  void WorkCame(Clock::time_point now) {
    if (!idle_since_) return;
    const Clock::duration idle = now - *std::exchange(idle_since_, std::nullopt);
    if (idle > kLongest || now < rest_until_) {
      window_ = Clock::duration::zero();
    } else {
      window_ = std::clamp<Clock::duration>(2 * window_, kFirst, kLongest);
    }
  }

  Clock::duration window() const { return window_; }

  // Work has run out: calls `look` until it gives true (it has found some), or for as long as has
  // proved useful.
  template <typename Look>
  bool Until(Look look) {
    Clock::time_point now = Clock::now();
    const Clock::time_point end = now + window_;
    WorkRanOut(now);
    while (now < end) {
      if (look()) {
        idle_since_.reset();
        return true;
      }
      sched_yield();
      const Clock::time_point before = std::exchange(now, Clock::now());
      Yielded(before, now);
    }
    return false;
  }

  // Until() has let others go first between the two.
  void Yielded(Clock::time_point before, Clock::time_point after) {
    if (!alone_ && after - before > kLost) rest_until_ = after + kRest;
  }

 private:
  const bool alone_;
  Clock::duration window_{0};
  std::optional<Clock::time_point> idle_since_;
  Clock::time_point rest_until_;
};

}  // namespace crosvm::event

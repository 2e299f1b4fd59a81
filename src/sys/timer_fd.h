// timerfd(2) on CLOCK_MONOTONIC.
#pragma once

#include <chrono>
#include <cstdint>

#include "sys/fd.h"

namespace crosvm::sys {

class TimerFd {
 public:
  static Result<TimerFd> Create();
  const UniqueFd& fd() const { return fd_; }

  // Fires once at `deadline` on std::chrono::steady_clock; a deadline in the past fires at once.
  void SetDeadline(std::chrono::steady_clock::time_point deadline) const;
  void Cancel() const;
  // Number of expirations since the last call; 0 when none.
  uint64_t Drain() const;

 private:
  UniqueFd fd_;
};

}  // namespace crosvm::sys

#include "sys/timer_fd.h"

#include <sys/timerfd.h>

#include <algorithm>

#include "base/check.h"

namespace crosvm::sys {
namespace {

void Arm(const UniqueFd& fd, std::chrono::nanoseconds since_boot) {
  constexpr int64_t kNsPerSecond = 1'000'000'000;
  itimerspec spec{};
  spec.it_value.tv_sec = since_boot.count() / kNsPerSecond;
  spec.it_value.tv_nsec = since_boot.count() % kNsPerSecond;
  CHECK(timerfd_settime(fd.get(), TFD_TIMER_ABSTIME, &spec, nullptr) == 0, "errno {}", errno);
}

}  // namespace

Result<TimerFd> TimerFd::Create() {
  TimerFd timer;
  timer.fd_ = UniqueFd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer.fd_.valid()) return FailErrno("creating a timerfd");
  return timer;
}

void TimerFd::SetDeadline(std::chrono::steady_clock::time_point deadline) const {
  // libstdc++'s steady_clock is CLOCK_MONOTONIC. Zero would disarm.
  Arm(fd_,
      std::max(std::chrono::nanoseconds(deadline.time_since_epoch()), std::chrono::nanoseconds(1)));
}

void TimerFd::Cancel() const {
  Arm(fd_, std::chrono::nanoseconds(0));
}

uint64_t TimerFd::Drain() const {
  uint64_t count = 0;
  const ssize_t size = RetryEintr([&] { return read(fd_.get(), &count, sizeof(count)); });
  return size == static_cast<ssize_t>(sizeof(count)) ? count : 0;
}

}  // namespace crosvm::sys

#include "event/test_loop.h"

#include "base/check.h"

namespace crosvm::event {

TestLoop::TestLoop() {
  const Status status = Init();
  CHECK(status.has_value(), "{}", status.error().ToString());
}

void TestLoop::RunUntilIdle() {
  constexpr int kMaxRounds = 100'000;
  for (int round = 0; round < kMaxRounds; ++round) {
    const Result<size_t> ran = Dispatch(0, OnStop::kIgnore);
    CHECK(ran.has_value(), "{}", ran.error().ToString());
    if (*ran == 0) return;
  }
  CHECK(false, "the loop does not become idle");
}

void TestLoop::AdvanceTime(Clock::duration duration) {
  const Clock::time_point end = now_ + duration;
  RunUntilIdle();
  for (auto next = NextDeadline(); next && *next <= end; next = NextDeadline()) {
    now_ = std::max(now_, *next);
    RunUntilIdle();
  }
  now_ = end;
  RunUntilIdle();
}

TestLoop::Callback TestLoop::CreateCheckpoint(const std::string& name) {
  return [this, name] { reached_.insert(name); };
}

bool TestLoop::RunUntil(const std::string& name, Clock::duration limit) {
  return RunUntil([&] { return reached_.erase(name) != 0; }, limit);
}

bool TestLoop::RunUntil(const std::function<bool()>& condition, Clock::duration limit) {
  const Clock::time_point end = Clock::now() + limit;
  while (!condition()) {
    // Timers that are due already fire even when no descriptor wakes the wait.
    const std::optional<Clock::time_point> next = NextDeadline();
    const int wait_ms = next && *next <= now_ ? 0 : 100;
    const Result<size_t> ran = Dispatch(wait_ms, OnStop::kIgnore);
    CHECK(ran.has_value(), "{}", ran.error().ToString());
    if (Clock::now() >= end) return condition();
  }
  return true;
}

}  // namespace crosvm::event

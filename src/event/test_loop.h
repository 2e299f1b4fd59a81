// An event loop for tests: real descriptors, but time stands still until the test advances it. A
// test that waits for another thread, process or the kernel waits for a checkpoint, never for a
// duration.
//
//   TestLoop loop;
//   device.OnDone(loop.CreateCheckpoint("done"));
//   ASSERT_TRUE(loop.RunUntil("done"));
//   loop.AdvanceTime(std::chrono::seconds(5));   // fires the timers of the next five seconds, in
//   order
#pragma once

#include <set>
#include <string>

#include "event/loop_core.h"

namespace crosvm::event {

class TestLoop : public LoopCore {
 public:
  TestLoop();

  Clock::time_point Now() const override { return now_; }

  // Dispatches descriptors, posted work and due timers until a round finds nothing to do. Aborts
  // when that does not come to an end: a callback then leaves its descriptor ready for ever.
  void RunUntilIdle();
  // Moves the clock; each timer that comes due sees Now() equal to its deadline, and the loop is
  // run until idle after it.
  void AdvanceTime(Clock::duration duration);

  // A callback that marks `name` as reached when called on this loop's thread.
  Callback CreateCheckpoint(const std::string& name);
  // Dispatches until the checkpoint is reached, and forgets it; false when `limit` of real time ran
  // out. The clock of the loop does not move meanwhile.
  bool RunUntil(const std::string& name, Clock::duration limit = std::chrono::seconds(30));
  // Dispatches until `condition` holds; it is asked after each round.
  bool RunUntil(const std::function<bool()>& condition,
                Clock::duration limit = std::chrono::seconds(30));

 private:
  void ArmTimer(std::optional<Clock::time_point>) override {}
  void OnTimerFd() override {}

  Clock::time_point now_{std::chrono::hours(1)};
  std::set<std::string> reached_;
};

}  // namespace crosvm::event

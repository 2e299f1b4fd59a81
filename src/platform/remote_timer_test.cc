#include "platform/remote_timer.h"

#include <gtest/gtest.h>

#include <thread>

#include "event/test_loop.h"

namespace crosvm::platform {
namespace {

using std::chrono::milliseconds;

TEST(RemoteTimer, FiresOnceAfterTheDelay) {
  event::TestLoop loop;
  int fired = 0;
  RemoteTimer timer(loop, [&] { ++fired; });
  timer.Set(milliseconds(10));
  loop.RunUntilIdle();
  loop.AdvanceTime(milliseconds(9));
  EXPECT_EQ(fired, 0);
  loop.AdvanceTime(milliseconds(1));
  EXPECT_EQ(fired, 1);
  loop.AdvanceTime(milliseconds(100));
  EXPECT_EQ(fired, 1);
}

TEST(RemoteTimer, TheLastSettingCounts) {
  event::TestLoop loop;
  int fired = 0;
  RemoteTimer timer(loop, [&] { ++fired; });
  timer.Set(milliseconds(10));
  timer.Set(milliseconds(50));
  loop.RunUntilIdle();
  loop.AdvanceTime(milliseconds(40));
  EXPECT_EQ(fired, 0);
  timer.Cancel();
  loop.RunUntilIdle();
  loop.AdvanceTime(milliseconds(40));
  EXPECT_EQ(fired, 0);
}

TEST(RemoteTimer, MayBeSetFromItsCallback) {
  event::TestLoop loop;
  int fired = 0;
  RemoteTimer* self = nullptr;
  RemoteTimer timer(loop, [&] {
    if (++fired < 3) self->Set(milliseconds(10));
  });
  self = &timer;
  timer.Set(milliseconds(10));
  loop.RunUntilIdle();
  loop.AdvanceTime(milliseconds(100));
  EXPECT_EQ(fired, 3);
}

TEST(RemoteTimer, NothingHappensAfterItsEnd) {
  event::TestLoop loop;
  int fired = 0;
  {
    RemoteTimer armed(loop, [&] { ++fired; });
    armed.Set(milliseconds(10));
    loop.RunUntilIdle();
    RemoteTimer posted(loop, [&] { ++fired; });
    posted.Set(milliseconds(10));
  }
  loop.RunUntilIdle();
  loop.AdvanceTime(milliseconds(100));
  EXPECT_EQ(fired, 0);
}

TEST(RemoteTimer, IsSetFromAnyThread) {
  event::TestLoop loop;
  int fired = 0;
  RemoteTimer timer(loop, [&] { ++fired; });
  std::thread other([&] {
    for (int i = 0; i < 1000; ++i) timer.Set(milliseconds(i));
    timer.Set(milliseconds(1));
  });
  for (int i = 0; i < 100; ++i) loop.RunUntilIdle();
  other.join();
  loop.RunUntilIdle();
  loop.AdvanceTime(milliseconds(1));
  EXPECT_EQ(fired, 1);
}

}  // namespace
}  // namespace crosvm::platform

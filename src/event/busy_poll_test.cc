#include "event/busy_poll.h"

#include <gtest/gtest.h>

namespace crosvm::event {
namespace {

using std::chrono::microseconds;

constexpr unsigned kProcessors = 2;

void Idle(BusyPoll& poll, Clock::duration time, Clock::time_point start = Clock::now()) {
  poll.WorkRanOut(start);
  poll.WorkCame(start + time);
}

TEST(BusyPollTest, LooksAfterShortIdlenessOnly) {
  // One of its own: a vain look is the beginning of idleness, which lasts for as long as this
  // thread does not run.
  EXPECT_FALSE(BusyPoll().Until([] { return true; })) << "it has learned nothing yet";
  BusyPoll poll;
  Idle(poll, microseconds(10));
  EXPECT_EQ(poll.window(), BusyPoll::kFirst);
  EXPECT_TRUE(poll.Until([] { return true; }));
  for (int i = 0; i < 10; ++i) Idle(poll, microseconds(10));
  EXPECT_EQ(poll.window(), BusyPoll::kLongest);
  Idle(poll, BusyPoll::kLongest + microseconds(1));
  EXPECT_EQ(poll.window(), microseconds(0));
  EXPECT_FALSE(poll.Until([] { return true; }));
}

TEST(BusyPollTest, WorkWithoutIdlenessTeachesNothing) {
  BusyPoll poll;
  poll.WorkCame(Clock::now());
  EXPECT_EQ(poll.window(), microseconds(0));
}

// A sleep's length alone would say that a longer look had found the work.
TEST(BusyPollTest, AVainLookCountsAsIdleness) {
  BusyPoll poll;
  for (int i = 0; i < 10; ++i) Idle(poll, microseconds(1));
  const Clock::time_point start = Clock::now();
  EXPECT_FALSE(poll.Until([] { return false; }));
  poll.WorkRanOut(start + BusyPoll::kLongest);
  poll.WorkCame(start + BusyPoll::kLongest + microseconds(1) + (Clock::now() - start));
  EXPECT_EQ(poll.window(), microseconds(0));
}

TEST(BusyPollTest, RestsAfterALongYield) {
  const Clock::time_point now = Clock::now();
  const auto after = [now](Clock::duration yield, unsigned processors) {
    BusyPoll poll(processors);
    Idle(poll, microseconds(1), now);
    poll.Yielded(now, now + yield);
    Idle(poll, microseconds(1), now + yield);
    return poll;
  };
  EXPECT_GT(after(BusyPoll::kLost, kProcessors).window(), microseconds(0));
  EXPECT_GT(after(10 * BusyPoll::kLost, 1).window(), microseconds(0))
      << "the only processor is always the others' too";
  BusyPoll rests = after(BusyPoll::kLost + microseconds(1), kProcessors);
  EXPECT_EQ(rests.window(), microseconds(0));
  Idle(rests, microseconds(1), now + 2 * BusyPoll::kRest);
  EXPECT_EQ(rests.window(), BusyPoll::kFirst) << "it begins again";
}

TEST(BusyPollTest, LooksUntilThereIsSomething) {
  BusyPoll poll;
  for (int i = 0; i < 10; ++i) Idle(poll, microseconds(1));
  int looks = 0;
  // However slow the machine is, it looks once.
  EXPECT_TRUE(poll.Until([&] { return ++looks == 1; }));
  looks = 0;
  EXPECT_FALSE(poll.Until([&] {
    ++looks;
    return false;
  }));
  EXPECT_GE(looks, 1);
}

}  // namespace
}  // namespace crosvm::event

#include "event/busy_poll.h"

#include <gtest/gtest.h>

namespace crosvm::event {
namespace {

using std::chrono::microseconds;

void Sleep(BusyPoll& poll, Clock::duration time) {
  const Clock::time_point now = Clock::now();
  poll.SleepBegins(now);
  poll.SleepEnds(now + time);
}

TEST(BusyPollTest, LooksAfterShortSleepsOnly) {
  BusyPoll poll;
  EXPECT_FALSE(poll.Until([] { return true; })) << "it has learned nothing yet";
  Sleep(poll, microseconds(10));
  EXPECT_EQ(poll.window(), BusyPoll::kFirst);
  EXPECT_TRUE(poll.Until([] { return true; }));
  for (int i = 0; i < 10; ++i) Sleep(poll, microseconds(10));
  EXPECT_EQ(poll.window(), BusyPoll::kLongest);
  Sleep(poll, BusyPoll::kLongest + microseconds(1));
  EXPECT_EQ(poll.window(), microseconds(0));
  EXPECT_FALSE(poll.Until([] { return true; }));
}

TEST(BusyPollTest, AnEndWithoutASleepTeachesNothing) {
  BusyPoll poll;
  poll.SleepEnds(Clock::now());
  EXPECT_EQ(poll.window(), microseconds(0));
}

TEST(BusyPollTest, LooksUntilThereIsSomething) {
  BusyPoll poll;
  for (int i = 0; i < 10; ++i) Sleep(poll, microseconds(1));
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

// Why a VM ends: the first reason.
#include "vm/guest_events.h"

#include <gtest/gtest.h>

#include <thread>

#include "event/test_loop.h"

namespace crosvm::vm {
namespace {

class GuestEventsTest : public ::testing::Test {
 protected:
  event::TestLoop loop_;
  int suspends_ = 0;
  GuestEvents events_{loop_, [this] { ++suspends_; }};
};

TEST_F(GuestEventsTest, TheFirstReasonWins) {
  EXPECT_FALSE(events_.reason().has_value());
  events_.OnPanic(platform::PanicKind::kPanicked);
  events_.OnReset();
  events_.OnPowerOff();
  EXPECT_EQ(events_.reason(), ExitReason::kPanic);
}

TEST_F(GuestEventsTest, StopsTheLoop) {
  std::thread vcpu([&] { events_.OnPowerOff(); });
  ASSERT_TRUE(loop_.Run().has_value());
  vcpu.join();
  EXPECT_EQ(events_.reason(), ExitReason::kPowerOff);
}

TEST_F(GuestEventsTest, ACrashKernelIsNotTheEnd) {
  events_.OnPanic(platform::PanicKind::kCrashLoaded);
  EXPECT_FALSE(events_.reason().has_value());
  events_.OnReset();
  EXPECT_EQ(events_.reason(), ExitReason::kReset);
}

TEST_F(GuestEventsTest, ASuspendComesOnTheLoop) {
  std::thread vcpu([&] { events_.OnSuspendRequest(); });
  vcpu.join();
  EXPECT_EQ(suspends_, 0);
  loop_.RunUntilIdle();
  EXPECT_EQ(suspends_, 1);
  EXPECT_FALSE(events_.reason().has_value());
}

}  // namespace
}  // namespace crosvm::vm

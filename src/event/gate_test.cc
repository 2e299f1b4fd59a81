#include "event/gate.h"

#include <gtest/gtest.h>

namespace crosvm::event {
namespace {

TEST(GateTest, IdleGateCallsAtOnce) {
  Gate gate;
  int calls = 0;
  gate.WhenIdle([&] { ++calls; });
  EXPECT_EQ(calls, 1);
}

TEST(GateTest, LastLeaveCallsOnce) {
  Gate gate;
  int calls = 0;
  gate.Enter();
  gate.Enter();
  gate.WhenIdle([&] { ++calls; });
  EXPECT_EQ(calls, 0);
  gate.Leave();
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(gate.in_flight(), 1U);
  gate.Leave();
  EXPECT_EQ(calls, 1);
  gate.Enter();
  gate.Leave();
  EXPECT_EQ(calls, 1);
}

TEST(GateTest, WaiterMayUseTheGateAgain) {
  Gate gate;
  std::string order;
  gate.Enter();
  gate.WhenIdle([&] {
    order += 'a';
    gate.Enter();
    gate.WhenIdle([&] { order += 'b'; });
  });
  gate.Leave();
  EXPECT_EQ(order, "a");
  gate.Leave();
  EXPECT_EQ(order, "ab");
}

TEST(GateDeathTest, UnbalancedLeaveAborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Gate gate;
  EXPECT_DEATH(gate.Leave(), "in_flight_ > 0");
}

}  // namespace
}  // namespace crosvm::event

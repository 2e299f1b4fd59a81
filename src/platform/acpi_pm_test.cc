#include "platform/acpi_pm.h"

#include <gtest/gtest.h>

#include <cstring>

#include "platform/testing_fakes.h"

namespace crosvm::platform {
namespace {

using namespace testing;

class AcpiPmTest : public ::testing::Test {
 protected:
  uint32_t Read(uint64_t offset, size_t size) {
    uint8_t bytes[4] = {};
    pm.Read(offset, std::span(bytes).first(size));
    uint32_t value = 0;
    std::memcpy(&value, bytes, 4);
    return value;
  }
  void Write16(uint64_t offset, uint16_t value) {
    const uint8_t bytes[] = {static_cast<uint8_t>(value), static_cast<uint8_t>(value >> 8)};
    pm.Write(offset, bytes);
  }

  event::Clock::time_point now{std::chrono::hours(5)};
  std::shared_ptr<FakeLine> sci = std::make_shared<FakeLine>();
  FakeEvents events;
  AcpiPm pm{sci, events, {.clock = [this] { return now; }}};
};

TEST_F(AcpiPmTest, ThePowerButtonRaisesTheSciOnlyWhenEnabled) {
  pm.PressPowerButton();
  EXPECT_EQ(Read(0, 2), 0x100u);
  EXPECT_FALSE(sci->up);
  Write16(2, 0x100);
  EXPECT_TRUE(sci->up);
  Write16(0, 0x0001);
  EXPECT_TRUE(sci->up);
  Write16(0, 0x0100);
  EXPECT_FALSE(sci->up);
  EXPECT_EQ(Read(0, 2), 0u);
  pm.PressPowerButton();
  EXPECT_TRUE(sci->up);
  EXPECT_EQ(sci->raises, 2);
}

TEST_F(AcpiPmTest, StatusIsClearedByteByByte) {
  pm.PressSleepButton();
  Out(pm, 0, 0xff);
  EXPECT_EQ(Read(0, 2), 0x200u);
  Out(pm, 1, 0x02);
  EXPECT_EQ(Read(0, 2), 0u);
}

TEST_F(AcpiPmTest, OneWideWriteReachesStatusAndEnable) {
  pm.PressPowerButton();
  const uint8_t both[] = {0, 0x01, 0, 0x03};
  pm.Write(0, both);
  EXPECT_EQ(Read(0, 4), 0x0300'0000u);
}

TEST_F(AcpiPmTest, EnableKeepsOnlyWhatExists) {
  Write16(2, 0xffff);
  EXPECT_EQ(Read(2, 2), 0x0721u);
}

TEST_F(AcpiPmTest, TheMachineIsInAcpiMode) {
  EXPECT_EQ(Read(4, 2), 1u);
  Write16(4, 0);
  EXPECT_EQ(Read(4, 2), 1u);
}

TEST_F(AcpiPmTest, SleepTypeOfS5PowersOff) {
  Write16(4, 0x2000);
  EXPECT_EQ(events.power_offs, 1);
  EXPECT_EQ(events.suspends, 0);
  Write16(4, 0x0000);
  EXPECT_EQ(events.power_offs, 1);
}

TEST_F(AcpiPmTest, OtherSleepTypesSuspendAndWakeSetsItsStatus) {
  Write16(4, 0x2000 | 1 << 10);
  EXPECT_EQ(events.suspends, 1);
  EXPECT_EQ(events.power_offs, 0);
  EXPECT_EQ(Read(4, 2), 0x0401u);  // SLP_EN reads as zero
  EXPECT_EQ(Read(0, 2) & 0x8000, 0u);
  pm.Wake();
  EXPECT_EQ(Read(0, 2) & 0x8000, 0x8000u);
  Write16(0, 0x8000);
  EXPECT_EQ(Read(0, 2) & 0x8000, 0u);
}

TEST_F(AcpiPmTest, TheHighByteAloneCanSleep) {
  Out(pm, 5, 0x20);
  EXPECT_EQ(events.power_offs, 1);
}

TEST_F(AcpiPmTest, TheTimerRunsAtItsFrequency) {
  EXPECT_EQ(Read(8, 4), 0u);
  now += std::chrono::seconds(1);
  EXPECT_EQ(Read(8, 4), 3'579'545u);
  now += std::chrono::milliseconds(500);
  EXPECT_EQ(Read(8, 4), 3'579'545u + 1'789'772u);
  now += std::chrono::hours(24 * 365);
  const uint64_t ticks = uint64_t{3'579'545} * 24 * 365 * 3600 + 3'579'545 + 1'789'772;
  EXPECT_EQ(Read(8, 4), static_cast<uint32_t>(ticks));
  EXPECT_EQ(Read(9, 1), ticks >> 8 & 0xff);
}

TEST_F(AcpiPmTest, TheTimerMayBe24BitsWide) {
  AcpiPm narrow(sci, events, {.timer_32bit = false, .clock = [this] { return now; }});
  now += std::chrono::seconds(5);
  uint8_t bytes[4] = {};
  narrow.Read(8, bytes);
  EXPECT_EQ(bytes[3], 0);
  EXPECT_EQ(bytes[0] | bytes[1] << 8 | bytes[2] << 16, (5 * 3'579'545) & 0xffffff);
}

TEST_F(AcpiPmTest, TheTimerStatusFollowsItsTopBit) {
  EXPECT_EQ(Read(0, 2), 0u);
  now += std::chrono::seconds(601);  // 2^31 ticks take 599.9 s
  EXPECT_EQ(Read(0, 2), 1u);
  Write16(0, 1);
  EXPECT_EQ(Read(0, 2), 0u);
}

TEST_F(AcpiPmTest, Hostile_AnyOffsetAndSize) {
  Flood(pm, AcpiPm::kLength);
  EXPECT_EQ(Read(12, 1), 0xffu);
}

}  // namespace
}  // namespace crosvm::platform

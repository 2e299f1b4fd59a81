#include "platform/pit.h"

#include <gtest/gtest.h>

#include "event/test_loop.h"
#include "platform/testing_fakes.h"

namespace crosvm::platform {
namespace {

using namespace testing;

class PitTest : public ::testing::Test {
 protected:
  // Lets this many ticks pass, and the loop's time with them.
  void Tick(uint64_t ticks) {
    total += ticks;
    const auto ns = std::chrono::nanoseconds(
        static_cast<int64_t>((total * 1'000'000'000 + 1'193'181) / 1'193'182));
    loop.AdvanceTime(begin + ns - loop.Now());
  }
  void Load(uint8_t channel, int mode, int count) {
    Out(*ports, 3, channel << 6 | 0x30 | mode << 1);
    Out(*ports, channel, count & 0xff);
    Out(*ports, channel, count >> 8);
    loop.RunUntilIdle();
  }
  int Latched(uint8_t channel) {
    Out(*ports, 3, channel << 6);
    const int low = In(*ports, channel);
    return low | In(*ports, channel) << 8;
  }
  int Status(uint8_t channel) {
    Out(*ports, 3, 0xe0 | 2 << channel);
    return In(*ports, channel);
  }

  event::TestLoop loop;
  const event::Clock::time_point begin = loop.Now();
  uint64_t total = 0;
  std::shared_ptr<FakeLine> line = std::make_shared<FakeLine>();
  Pit pit{loop, line, [this] { return loop.Now(); }};
  std::shared_ptr<bus::Device> ports = pit.counter_ports();
  std::shared_ptr<bus::Device> speaker = pit.speaker_port();
};

TEST_F(PitTest, WriteAndLatch) {
  Load(0, 2, 0x1234);
  EXPECT_EQ(Latched(0), 0x1234);
}

TEST_F(PitTest, WriteAndReadOnlyTheLowByte) {
  Out(*ports, 3, 0x14);
  Out(*ports, 0, 0x34);
  EXPECT_EQ(In(*ports, 0), 0x34);
  EXPECT_EQ(In(*ports, 0), 0x34);
}

TEST_F(PitTest, WriteAndReadOnlyTheHighByte) {
  Out(*ports, 3, 0x24);
  Out(*ports, 0, 0x12);
  EXPECT_EQ(In(*ports, 0), 0x12);
  EXPECT_EQ(In(*ports, 0), 0x12);
}

TEST_F(PitTest, TheControlRegisterIsWriteOnly) {
  Out(*ports, 3, 0x34);
  EXPECT_EQ(In(*ports, 3), 0);
}

TEST_F(PitTest, ALatchHoldsWhileTimePassesAndIsNotLatchedAgain) {
  Load(0, 0, 0xffff);
  Tick(100);
  Out(*ports, 3, 0x00);
  Tick(50);
  Out(*ports, 3, 0x00);
  const int low = In(*ports, 0);
  EXPECT_EQ(low | In(*ports, 0) << 8, 0xffff - 100);
  EXPECT_EQ(Latched(0), 0xffff - 150);
}

TEST_F(PitTest, InterruptOnTerminalCountFiresOnce) {
  Load(0, 0, 1000);
  Tick(999);
  EXPECT_EQ(line->raises, 0);
  EXPECT_EQ(Status(0) & 0x80, 0);
  Tick(1);
  EXPECT_EQ(line->raises, 1);
  EXPECT_EQ(Status(0) & 0x80, 0x80);
  Tick(100'000);
  EXPECT_EQ(line->raises, 1);
}

TEST_F(PitTest, InterruptOnTerminalCountCountsOnBelowZero) {
  Load(0, 0, 10);
  Tick(12);
  EXPECT_EQ(Latched(0), 0xfffe);
}

TEST_F(PitTest, RateGeneratorFiresEachPeriod) {
  Load(0, 2, 1000);
  Tick(1000);
  EXPECT_EQ(line->raises, 1);
  for (int i = 0; i < 9; ++i) Tick(1000);
  EXPECT_EQ(line->raises, 10);
  Tick(250);
  EXPECT_EQ(Latched(0), 750);
}

TEST_F(PitTest, SquareWaveFiresEachPeriodAndCountsByTwo) {
  Load(0, 3, 1000);
  Tick(100);
  EXPECT_EQ(Latched(0), 800);
  EXPECT_EQ(Status(0) & 0x80, 0x80);
  Tick(400);
  EXPECT_EQ(Latched(0), 1000);
  EXPECT_EQ(Status(0) & 0x80, 0);
  Tick(500);
  EXPECT_EQ(line->raises, 1);
  Tick(1000);
  EXPECT_EQ(line->raises, 2);
}

TEST_F(PitTest, ZeroCountsAsTheLargest) {
  Load(0, 2, 0);
  Tick(65535);
  EXPECT_EQ(line->raises, 0);
  Tick(1);
  EXPECT_EQ(line->raises, 1);
}

TEST_F(PitTest, SoftwareStrobeFiresAfterTheEnd) {
  Load(0, 4, 1000);
  Tick(1000);
  EXPECT_EQ(Status(0) & 0x80, 0);
  EXPECT_EQ(line->raises, 0);
  Tick(1);
  EXPECT_EQ(line->raises, 1);
  EXPECT_EQ(Status(0) & 0x80, 0x80);
}

TEST_F(PitTest, ANewModeStopsTheInterrupts) {
  Load(0, 2, 1000);
  Tick(1000);
  Out(*ports, 3, 0x30);
  Tick(10'000);
  EXPECT_EQ(line->raises, 1);
}

TEST_F(PitTest, ModesSixAndSevenAreTwoAndThree) {
  Load(0, 6, 100);
  EXPECT_EQ(Status(0) & 0x0e, 0x04);
  Load(0, 7, 100);
  EXPECT_EQ(Status(0) & 0x0e, 0x06);
}

TEST_F(PitTest, ReadBackOfStatus) {
  Out(*ports, 3, 0x34);
  EXPECT_EQ(Status(0), 0x80 | 0x40 | 0x34);
  Out(*ports, 0, 1);
  EXPECT_EQ(Status(0) & 0x40, 0x40);
  Out(*ports, 0, 1);
  EXPECT_EQ(Status(0), 0x80 | 0x34);
}

TEST_F(PitTest, ReadBackOfCountAndStatusGivesStatusFirst) {
  Load(0, 2, 0x1234);
  Out(*ports, 3, 0xc2);
  EXPECT_EQ(In(*ports, 0) & 0x3f, 0x34);
  EXPECT_EQ(In(*ports, 0), 0x34);
  EXPECT_EQ(In(*ports, 0), 0x12);
}

TEST_F(PitTest, ReadBackOfSeveralChannels) {
  Load(0, 2, 0x1111);
  Load(1, 2, 0x2222);
  Out(*ports, 3, 0xd6);
  Tick(16);
  EXPECT_EQ(In(*ports, 0), 0x11);
  EXPECT_EQ(In(*ports, 1), 0x22);
}

TEST_F(PitTest, SpeakerGateStartsAndHoldsChannelTwo) {
  EXPECT_EQ(In(*speaker, 0) & 0x03, 0);
  Load(2, 0, 1000);
  Tick(5000);
  EXPECT_EQ(Latched(2), 1000);
  EXPECT_EQ(In(*speaker, 0) & 0x20, 0);
  Out(*speaker, 0, 0x01);
  Tick(400);
  EXPECT_EQ(Latched(2), 600);
  Out(*speaker, 0, 0x00);
  Tick(400);
  EXPECT_EQ(Latched(2), 600);
  Out(*speaker, 0, 0x03);
  Tick(600);
  EXPECT_EQ(In(*speaker, 0) & 0x23, 0x23);
}

TEST_F(PitTest, SpeakerSquareWaveTogglesTheOutput) {
  Out(*speaker, 0, 0x01);
  Load(2, 3, 1000);
  EXPECT_EQ(In(*speaker, 0) & 0x20, 0x20);
  Tick(500);
  EXPECT_EQ(In(*speaker, 0) & 0x20, 0);
  Tick(500);
  EXPECT_EQ(In(*speaker, 0) & 0x20, 0x20);
}

TEST_F(PitTest, SpeakerOneShotIsTriggeredByTheGate) {
  Load(2, 1, 1000);
  EXPECT_EQ(In(*speaker, 0) & 0x20, 0x20);
  Out(*speaker, 0, 0x01);
  EXPECT_EQ(In(*speaker, 0) & 0x20, 0);
  Tick(500);
  Out(*speaker, 0, 0x00);
  Out(*speaker, 0, 0x01);
  Tick(999);
  EXPECT_EQ(In(*speaker, 0) & 0x20, 0);
  Tick(1);
  EXPECT_EQ(In(*speaker, 0) & 0x20, 0x20);
}

TEST_F(PitTest, TheRefreshBitToggles) {
  const int first = In(*speaker, 0) & 0x10;
  Tick(18);
  EXPECT_NE(In(*speaker, 0) & 0x10, first);
}

TEST_F(PitTest, ChannelTwoRaisesNoInterrupt) {
  Out(*speaker, 0, 0x01);
  Load(2, 2, 100);
  Tick(1000);
  EXPECT_EQ(line->raises, 0);
}

TEST_F(PitTest, Hostile_TheSmallestCountIsSlowedDown) {
  Load(0, 2, 1);
  loop.AdvanceTime(std::chrono::milliseconds(100));
  EXPECT_LE(line->raises, 500);
  EXPECT_GE(line->raises, 400);
}

TEST_F(PitTest, Hostile_AnyOffsetAndSize) {
  Flood(*ports, Pit::kCounterLength);
  Flood(*speaker, Pit::kSpeakerLength);
  loop.AdvanceTime(std::chrono::milliseconds(100));
}

}  // namespace
}  // namespace crosvm::platform

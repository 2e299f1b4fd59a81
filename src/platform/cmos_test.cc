#include "platform/cmos.h"

#include <gtest/gtest.h>

#include "event/test_loop.h"
#include "platform/testing_fakes.h"

namespace crosvm::platform {
namespace {

using namespace testing;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

// 2023-11-14 22:13:20 UTC, a Tuesday.
constexpr seconds kStart{1'700'000'000};

class CmosTest : public ::testing::Test {
 protected:
  int Get(int index) {
    Out(cmos, 0, index);
    return In(cmos, 1);
  }
  void Set(int index, int value) {
    Out(cmos, 0, index);
    Out(cmos, 1, value);
    loop.RunUntilIdle();
  }
  // In small steps, so that the wall clock moves with the loop's.
  void Advance(milliseconds duration) {
    for (milliseconds done{0}; done < duration; done += milliseconds(1)) {
      loop.AdvanceTime(milliseconds(1));
    }
  }

  event::TestLoop loop;
  const event::Clock::time_point begin = loop.Now();
  std::shared_ptr<FakeLine> line = std::make_shared<FakeLine>();
  Cmos cmos{loop,
            line,
            {.ram_below_4g = uint64_t{3} << 30, .ram_above_4g = uint64_t{5} << 30, .clock = [this] {
               return std::chrono::system_clock::time_point(kStart) +
                      std::chrono::duration_cast<microseconds>(loop.Now() - begin);
             }}};
};

TEST_F(CmosTest, TheTimeIsUtcInBcd) {
  EXPECT_EQ(Get(0x00), 0x20);
  EXPECT_EQ(Get(0x02), 0x13);
  EXPECT_EQ(Get(0x04), 0x22);
  EXPECT_EQ(Get(0x06), 3);
  EXPECT_EQ(Get(0x07), 0x14);
  EXPECT_EQ(Get(0x08), 0x11);
  EXPECT_EQ(Get(0x09), 0x23);
  EXPECT_EQ(Get(0x32), 0x20);
  loop.AdvanceTime(seconds(41));
  EXPECT_EQ(Get(0x00), 0x01);
  EXPECT_EQ(Get(0x02), 0x14);
}

TEST_F(CmosTest, BinaryModeAndTwelveHours) {
  Set(0x0b, 0x06);
  EXPECT_EQ(Get(0x04), 22);
  EXPECT_EQ(Get(0x09), 23);
  Set(0x0b, 0x04);
  EXPECT_EQ(Get(0x04), 0x80 | 10);
  Set(0x0b, 0x00);
  EXPECT_EQ(Get(0x04), 0x90);
}

TEST_F(CmosTest, MidnightAndNoonInTwelveHours) {
  Set(0x0b, 0x00);
  Set(0x04, 0x12);
  EXPECT_EQ(Get(0x04), 0x12);
  Set(0x0b, 0x02);
  EXPECT_EQ(Get(0x04), 0x00);
  Set(0x0b, 0x00);
  Set(0x04, 0x92);
  Set(0x0b, 0x02);
  EXPECT_EQ(Get(0x04), 0x12);
}

TEST_F(CmosTest, StatusDefaults) {
  EXPECT_EQ(Get(0x0a), 0x26);
  EXPECT_EQ(Get(0x0b), 0x02);
  EXPECT_EQ(Get(0x0c), 0x00);
  EXPECT_EQ(Get(0x0d), 0x80);
  Set(0x0d, 0);
  EXPECT_EQ(Get(0x0d), 0x80);
}

TEST_F(CmosTest, UpdateInProgressAtTheEndOfASecond) {
  loop.AdvanceTime(microseconds(999'700));
  EXPECT_EQ(Get(0x0a) & 0x80, 0);
  loop.AdvanceTime(microseconds(100));
  EXPECT_EQ(Get(0x0a) & 0x80, 0x80);
  loop.AdvanceTime(microseconds(200));
  EXPECT_EQ(Get(0x0a) & 0x80, 0);
}

TEST_F(CmosTest, AGuestThatSetsTheTimeMovesItsOwnClock) {
  Set(0x0b, 0x82);
  loop.AdvanceTime(seconds(7));
  EXPECT_EQ(Get(0x00), 0x20);  // it stands still
  Set(0x00, 0x55);
  Set(0x02, 0x59);
  Set(0x04, 0x23);
  Set(0x07, 0x31);
  Set(0x08, 0x12);
  Set(0x09, 0x99);
  Set(0x32, 0x19);
  Set(0x0b, 0x02);
  EXPECT_EQ(Get(0x00), 0x55);
  loop.AdvanceTime(seconds(5));
  EXPECT_EQ(Get(0x00), 0x00);
  EXPECT_EQ(Get(0x09), 0x00);
  EXPECT_EQ(Get(0x32), 0x20);
  EXPECT_EQ(Get(0x06), 7);  // a Saturday
}

TEST_F(CmosTest, TheUpdateInterruptComesEachSecond) {
  Set(0x0b, 0x12);
  Advance(seconds(3));
  EXPECT_EQ(line->raises, 1);  // not acknowledged
  EXPECT_EQ(Get(0x0c), 0x90);
  EXPECT_EQ(Get(0x0c), 0x00);
  Advance(seconds(1));
  EXPECT_EQ(line->raises, 2);
  Set(0x0b, 0x02);
  Get(0x0c);
  Advance(seconds(2));
  EXPECT_EQ(line->raises, 2);
}

TEST_F(CmosTest, TheAlarmComesAtItsTime) {
  Set(0x01, 0x23);
  Set(0x03, 0x13);
  Set(0x05, 0x22);
  Set(0x0b, 0x22);
  Advance(milliseconds(2900));
  EXPECT_EQ(line->raises, 0);
  Advance(milliseconds(200));
  EXPECT_EQ(line->raises, 1);
  EXPECT_EQ(Get(0x0c) & 0xa0, 0xa0);
  Advance(seconds(5));
  EXPECT_EQ(line->raises, 1);
}

TEST_F(CmosTest, AnAlarmFieldMayMatchAnything) {
  Set(0x01, 0xff);
  Set(0x03, 0xc0);
  Set(0x05, 0xff);
  Set(0x0b, 0x22);
  Advance(seconds(1));
  EXPECT_EQ(line->raises, 1);
}

TEST_F(CmosTest, ThePeriodicInterrupt) {
  Set(0x0a, 0x2a);  // 64 Hz
  Set(0x0b, 0x42);
  int seen = 0;
  for (int i = 0; i < 1000; ++i) {
    loop.AdvanceTime(milliseconds(1));
    if (Get(0x0c) == 0xc0) ++seen;
  }
  EXPECT_GE(seen, 60);
  EXPECT_LE(seen, 64);
}

TEST_F(CmosTest, Hostile_TheFastestPeriodicRateIsSlowedDown) {
  Set(0x0a, 0x23);  // 8192 Hz
  Set(0x0b, 0x42);
  int seen = 0;
  for (int i = 0; i < 10'000; ++i) {
    loop.AdvanceTime(microseconds(10));
    if (Get(0x0c) == 0xc0) ++seen;
  }
  EXPECT_LE(seen, 103);
  EXPECT_GE(seen, 90);
}

TEST_F(CmosTest, MemorySizes) {
  EXPECT_EQ(Get(0x34) | Get(0x35) << 8, (3 * 1024 - 16) * 16);
  EXPECT_EQ(Get(0x5b) | Get(0x5c) << 8 | Get(0x5d) << 16, 5 * 1024 * 16);
  EXPECT_EQ(Get(0x15) | Get(0x16) << 8, 640);
  EXPECT_EQ(Get(0x17) | Get(0x18) << 8, 0xffff);
}

TEST_F(CmosTest, MemoryKeepsWhatIsWrittenAndTheIndexWraps) {
  Set(0x40, 0xab);
  EXPECT_EQ(Get(0x40), 0xab);
  EXPECT_EQ(Get(0xc0), 0xab);
  EXPECT_EQ(In(cmos, 0), 0xff);
}

TEST_F(CmosTest, Hostile_EveryRegisterAndValue) {
  for (int mode : {0x00, 0x02, 0x04, 0x06, 0x80, 0x86}) {
    Set(0x0b, mode);
    for (int index = 0; index < 128; ++index) {
      if (index == 0x0b) continue;
      for (int value : {0x00, 0x01, 0x7f, 0x80, 0x99, 0xff}) {
        Set(index, value);
        Get(index);
      }
    }
  }
  for (int index = 0; index < 128; ++index) Get(index);
}

TEST_F(CmosTest, Hostile_AnyOffsetAndSize) {
  Flood(cmos, Cmos::kLength);
  Set(0x0b, 0x02);
  Get(0x00);
}

}  // namespace
}  // namespace crosvm::platform

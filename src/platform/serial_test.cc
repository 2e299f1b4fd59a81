#include "platform/serial.h"

#include <gtest/gtest.h>

#include <thread>

#include "platform/testing_fakes.h"

namespace crosvm::platform {
namespace {

using namespace testing;  // the fakes

class SerialTest : public ::testing::Test {
 protected:
  SerialTest() {
    auto sink_owner = std::make_unique<FakeSink>();
    auto source_owner = std::make_unique<FakeSource>();
    sink = sink_owner.get();
    source = source_owner.get();
    serial = std::make_unique<Serial>(
        "serial 1", line,
        chardev::CharStreams{.sink = std::move(sink_owner), .source = std::move(source_owner)});
    serial->Start();
  }
  void Type(const std::string& text) {
    source->text += text;
    source->Pump();
  }

  std::shared_ptr<FakeLine> line = std::make_shared<FakeLine>();
  FakeSink* sink;
  FakeSource* source;
  std::unique_ptr<Serial> serial;
};

TEST_F(SerialTest, ResetValues) {
  EXPECT_EQ(In(*serial, 1), 0);
  EXPECT_EQ(In(*serial, 2), 0x01);
  EXPECT_EQ(In(*serial, 3), 0);
  EXPECT_EQ(In(*serial, 4), 0x08);
  EXPECT_EQ(In(*serial, 5), 0x60);
  EXPECT_EQ(In(*serial, 6), 0xb0);
  EXPECT_EQ(In(*serial, 7), 0);
}

TEST_F(SerialTest, OutputGoesToTheSink) {
  for (const char c : std::string("hello")) Out(*serial, 0, c);
  EXPECT_EQ(sink->text, "hello");
  EXPECT_EQ(In(*serial, 5) & 0x60, 0x60);
}

TEST_F(SerialTest, TheDivisorLatchHidesDataAndInterruptEnable) {
  Out(*serial, 1, 0x0f);
  Out(*serial, 3, 0x80);
  EXPECT_EQ(In(*serial, 0), 12);
  Out(*serial, 0, 0x34);
  Out(*serial, 1, 0x12);
  EXPECT_EQ(In(*serial, 0), 0x34);
  EXPECT_EQ(In(*serial, 1), 0x12);
  EXPECT_TRUE(sink->text.empty());
  Out(*serial, 3, 0x03);
  EXPECT_EQ(In(*serial, 1), 0x0f);
}

TEST_F(SerialTest, InterruptEnableKeepsFourBits) {
  Out(*serial, 1, 0xff);
  EXPECT_EQ(In(*serial, 1), 0x0f);
}

TEST_F(SerialTest, EnablingTheTransmitInterruptRaisesAtOnceAndReadingIirClears) {
  Out(*serial, 1, 0x02);
  EXPECT_TRUE(line->up);
  EXPECT_EQ(In(*serial, 2), 0x02);
  EXPECT_FALSE(line->up);
  EXPECT_EQ(In(*serial, 2), 0x01);
}

TEST_F(SerialTest, EachByteSentRaisesTheTransmitInterrupt) {
  Out(*serial, 1, 0x02);
  In(*serial, 2);
  Out(*serial, 0, 'a');
  EXPECT_TRUE(line->up);
  EXPECT_EQ(line->raises, 2);
}

TEST_F(SerialTest, AFullSinkHoldsTheTransmitterUntilThereIsRoom) {
  Out(*serial, 2, 0x01);
  Out(*serial, 1, 0x02);
  In(*serial, 2);
  sink->room = 0;
  Out(*serial, 0, 'a');
  Out(*serial, 0, 'b');
  EXPECT_EQ(In(*serial, 5) & 0x60, 0);
  EXPECT_FALSE(line->up);
  sink->room = 1;
  sink->on_room();
  EXPECT_EQ(In(*serial, 5) & 0x60, 0);
  sink->room = 10;
  sink->on_room();
  EXPECT_EQ(In(*serial, 5) & 0x60, 0x60);
  EXPECT_TRUE(line->up);
  EXPECT_EQ(sink->text, "ab");
}

TEST_F(SerialTest, Hostile_AStuckSinkKeepsSixteenBytesOnly) {
  Out(*serial, 2, 0x01);
  sink->room = 0;
  for (int i = 0; i < 100'000; ++i) Out(*serial, 0, 'a' + i % 26);
  sink->room = SIZE_MAX;
  sink->on_room();
  EXPECT_EQ(sink->text, "abcdefghijklmnop");
}

TEST_F(SerialTest, ClearingTheTransmitFifoDropsWhatWaits) {
  Out(*serial, 2, 0x01);
  sink->room = 0;
  Out(*serial, 0, 'a');
  Out(*serial, 2, 0x05);
  EXPECT_EQ(In(*serial, 5) & 0x60, 0x60);
  sink->room = SIZE_MAX;
  sink->on_room();
  EXPECT_EQ(sink->text, "");
}

TEST_F(SerialTest, WithoutFifoOneByteIsReceivedAtATime) {
  Out(*serial, 1, 0x01);
  Type("ab");
  EXPECT_TRUE(line->up);
  EXPECT_EQ(In(*serial, 2), 0x04);
  EXPECT_EQ(In(*serial, 5) & 1, 1);
  EXPECT_EQ(source->text, "b");
  EXPECT_EQ(In(*serial, 0), 'a');
  EXPECT_FALSE(line->up);
  EXPECT_EQ(In(*serial, 5) & 1, 0);
  EXPECT_EQ(source->resumes, 1);
  source->Pump();
  EXPECT_EQ(In(*serial, 0), 'b');
}

TEST_F(SerialTest, TheFifoTakesSixteenBytesAndThenHoldsTheSource) {
  Out(*serial, 2, 0x01);
  Type("0123456789abcdefXYZ");
  EXPECT_EQ(source->text, "XYZ");
  EXPECT_EQ(source->resumes, 0);
  EXPECT_EQ(In(*serial, 0), '0');
  EXPECT_EQ(source->resumes, 1);
  source->Pump();
  EXPECT_EQ(source->text, "YZ");
}

TEST_F(SerialTest, TheTriggerLevelTellsDataFromTimeout) {
  Out(*serial, 2, 0x81);  // 8 bytes
  Out(*serial, 1, 0x01);
  Type("1234567");
  EXPECT_EQ(In(*serial, 2), 0xcc);
  Type("8");
  EXPECT_EQ(In(*serial, 2), 0xc4);
  EXPECT_EQ(In(*serial, 0), '1');
  EXPECT_EQ(In(*serial, 2), 0xcc);
}

TEST_F(SerialTest, FifoEnableShowsInIirAndItsChangeEmptiesTheFifo) {
  Out(*serial, 2, 0x01);
  EXPECT_EQ(In(*serial, 2), 0xc1);
  Type("abc");
  Out(*serial, 2, 0x01);
  EXPECT_EQ(In(*serial, 5) & 1, 1);
  Out(*serial, 2, 0x00);
  EXPECT_EQ(In(*serial, 5) & 1, 0);
  EXPECT_EQ(In(*serial, 2), 0x01);
}

TEST_F(SerialTest, TheReceiveResetBitEmptiesOnlyThatFifo) {
  Out(*serial, 2, 0x01);
  Type("abc");
  Out(*serial, 2, 0x03);
  EXPECT_EQ(In(*serial, 5) & 1, 0);
  EXPECT_EQ(In(*serial, 0), 0);
  EXPECT_EQ(In(*serial, 2), 0xc1);
}

TEST_F(SerialTest, FifoControlBitsNeedBitZero) {
  Type("a");
  Out(*serial, 2, 0x02);
  EXPECT_EQ(In(*serial, 5) & 1, 1);
}

TEST_F(SerialTest, InterruptPriorities) {
  Out(*serial, 4, 0x10);
  Out(*serial, 1, 0x0f);
  Out(*serial, 0, 'a');
  Out(*serial, 0, 'b');   // overrun
  Out(*serial, 4, 0x1f);  // modem lines change
  EXPECT_EQ(In(*serial, 2), 0x06);
  EXPECT_EQ(In(*serial, 5) & 2, 2);
  EXPECT_EQ(In(*serial, 2), 0x04);
  In(*serial, 0);
  EXPECT_EQ(In(*serial, 2), 0x02);
  EXPECT_EQ(In(*serial, 2), 0x00);
  In(*serial, 6);
  EXPECT_EQ(In(*serial, 2), 0x01);
  EXPECT_FALSE(line->up);
}

TEST_F(SerialTest, LoopbackReturnsDataAndModemLines) {
  Out(*serial, 4, 0x1a);
  EXPECT_EQ(In(*serial, 6) & 0xf0, 0x90);
  Out(*serial, 4, 0x15);
  EXPECT_EQ(In(*serial, 6) & 0xf0, 0x60);
  Out(*serial, 0, 'x');
  EXPECT_EQ(In(*serial, 0), 'x');
  EXPECT_EQ(sink->text, "");
  Type("y");
  EXPECT_EQ(source->text, "y");
  Out(*serial, 4, 0x00);
  EXPECT_EQ(source->resumes, 1);
  EXPECT_EQ(In(*serial, 6) & 0xf0, 0xb0);
}

TEST_F(SerialTest, LoopbackOverrunKeepsTheLastByteWithoutFifoAndTheFirstWith) {
  Out(*serial, 4, 0x10);
  Out(*serial, 0, 'a');
  Out(*serial, 0, 'b');
  EXPECT_EQ(In(*serial, 5) & 3, 3);
  EXPECT_EQ(In(*serial, 5) & 3, 1);
  EXPECT_EQ(In(*serial, 0), 'b');
  Out(*serial, 2, 0x01);
  for (int i = 0; i < 17; ++i) Out(*serial, 0, 'a' + i);
  EXPECT_EQ(In(*serial, 5) & 3, 3);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(In(*serial, 0), 'a' + i);
  EXPECT_EQ(In(*serial, 5) & 1, 0);
}

TEST_F(SerialTest, ModemDeltasAreReadOnce) {
  Out(*serial, 4, 0x14);  // loop, OUT1: ring on, others off
  EXPECT_EQ(In(*serial, 6), 0x4b);
  EXPECT_EQ(In(*serial, 6), 0x40);
  Out(*serial, 4, 0x10);  // ring off: trailing edge
  EXPECT_EQ(In(*serial, 6), 0x04);
}

TEST_F(SerialTest, StatusRegistersAreReadOnlyAndScratchKeeps) {
  Out(*serial, 5, 0);
  Out(*serial, 6, 0);
  EXPECT_EQ(In(*serial, 5), 0x60);
  EXPECT_EQ(In(*serial, 6), 0xb0);
  Out(*serial, 7, 0x5a);
  EXPECT_EQ(In(*serial, 7), 0x5a);
}

TEST_F(SerialTest, Hostile_AnyOffsetAndSize) {
  Flood(*serial, Serial::kLength);
  EXPECT_EQ(In(*serial, 8), 0xff);
}

TEST_F(SerialTest, SeveralThreadsAtOnce) {
  Out(*serial, 2, 0x01);
  std::thread other([&] {
    for (int i = 0; i < 2000; ++i) {
      Out(*serial, 0, 'a');
      In(*serial, 5);
    }
  });
  for (int i = 0; i < 2000; ++i) {
    Type("x");
    In(*serial, 0);
    Out(*serial, 1, i & 0xf);
  }
  other.join();
  EXPECT_EQ(sink->text.size(), 2000u);
}

}  // namespace
}  // namespace crosvm::platform

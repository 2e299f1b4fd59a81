#include "platform/pic.h"

#include <gtest/gtest.h>

#include "platform/testing_fakes.h"

namespace crosvm::platform {
namespace {

using namespace testing;

class PicTest : public ::testing::Test {
 protected:
  PicTest() { Initialise(0x01); }

  void Initialise(int icw4, int icw1 = 0x11) {
    Out(*one, 0, icw1);
    Out(*one, 1, 0x20);
    Out(*one, 1, 0x04);
    if ((icw1 & 1) != 0) Out(*one, 1, icw4);
    Out(*two, 0, icw1);
    Out(*two, 1, 0x28);
    Out(*two, 1, 0x02);
    if ((icw1 & 1) != 0) Out(*two, 1, icw4);
  }
  void Pulse(uint32_t pin) {
    pic.SetPin(pin, true);
    pic.SetPin(pin, false);
  }
  uint8_t Requested(bus::Device& chip) {
    Out(chip, 0, 0x0a);
    return In(chip, 0);
  }
  uint8_t InService(bus::Device& chip) {
    Out(chip, 0, 0x0b);
    return In(chip, 0);
  }

  int requests = 0;
  Pic pic{[this] { ++requests; }};
  std::shared_ptr<bus::Device> one = pic.primary_ports();
  std::shared_ptr<bus::Device> two = pic.secondary_ports();
  std::shared_ptr<bus::Device> elcr = pic.trigger_ports();
};

TEST_F(PicTest, InitialisationClearsMaskAndService) {
  Out(*one, 1, 0xff);
  Pulse(3);
  EXPECT_EQ(In(*one, 1), 0xff);
  Initialise(0x01);
  EXPECT_EQ(In(*one, 1), 0);
  EXPECT_EQ(Requested(*one), 0);
  EXPECT_EQ(InService(*one), 0);
  EXPECT_FALSE(pic.pending());
  EXPECT_EQ(pic.Acknowledge(), std::nullopt);
}

TEST_F(PicTest, TheWordsAfterTheThirdAreMasksWhenNoFourthWasAnnounced) {
  Out(*one, 0, 0x10);
  Out(*one, 1, 0x40);
  Out(*one, 1, 0x04);
  Out(*one, 1, 0x55);
  EXPECT_EQ(In(*one, 1), 0x55);
}

TEST_F(PicTest, TheVectorBaseDropsItsLowBits) {
  Out(*one, 0, 0x11);
  Out(*one, 1, 0x37);
  Out(*one, 1, 0x04);
  Out(*one, 1, 0x01);
  Pulse(1);
  EXPECT_EQ(pic.Acknowledge(), 0x31);
}

TEST_F(PicTest, AnEdgeIsLatchedUntilAcknowledged) {
  Pulse(4);
  EXPECT_TRUE(pic.pending());
  EXPECT_EQ(Requested(*one), 0x10);
  EXPECT_EQ(pic.Acknowledge(), 0x24);
  EXPECT_EQ(Requested(*one), 0);
  EXPECT_EQ(InService(*one), 0x10);
  EXPECT_FALSE(pic.pending());
}

TEST_F(PicTest, AHeldEdgePinInterruptsOnce) {
  pic.SetPin(4, true);
  pic.SetPin(4, true);
  EXPECT_EQ(pic.Acknowledge(), 0x24);
  Out(*one, 0, 0x20);
  EXPECT_FALSE(pic.pending());
  pic.SetPin(4, false);
  pic.SetPin(4, true);
  EXPECT_TRUE(pic.pending());
}

TEST_F(PicTest, ALevelPinInterruptsForAsLongAsItIsHigh) {
  Out(*elcr, 0, 0x20);
  pic.SetPin(5, true);
  EXPECT_EQ(pic.Acknowledge(), 0x25);
  Out(*one, 0, 0x20);
  EXPECT_EQ(pic.Acknowledge(), 0x25);
  pic.SetPin(5, false);
  Out(*one, 0, 0x20);
  EXPECT_FALSE(pic.pending());
}

TEST_F(PicTest, ElcrBitsOfFixedPinsStayZero) {
  Out(*elcr, 0, 0xff);
  Out(*elcr, 1, 0xff);
  EXPECT_EQ(In(*elcr, 0), 0xf8);
  EXPECT_EQ(In(*elcr, 1), 0xde);
  Out(*elcr, 0, 0x08);
  EXPECT_EQ(In(*elcr, 0), 0x08);
}

TEST_F(PicTest, TheLowerPinWinsAndInterruptsTheHigher) {
  Pulse(6);
  Pulse(3);
  EXPECT_EQ(pic.Acknowledge(), 0x23);
  EXPECT_FALSE(pic.pending());
  Pulse(1);
  EXPECT_EQ(pic.Acknowledge(), 0x21);
  Out(*one, 0, 0x20);
  Out(*one, 0, 0x20);
  EXPECT_EQ(pic.Acknowledge(), 0x26);
}

TEST_F(PicTest, AMaskedPinWaits) {
  Out(*one, 1, 0x10);
  Pulse(4);
  EXPECT_FALSE(pic.pending());
  EXPECT_EQ(Requested(*one), 0x10);
  Out(*one, 1, 0x00);
  EXPECT_EQ(pic.Acknowledge(), 0x24);
}

TEST_F(PicTest, SeveralMasks) {
  Out(*one, 1, 0x12);
  Pulse(1);
  Pulse(4);
  Pulse(6);
  EXPECT_EQ(pic.Acknowledge(), 0x26);
  Out(*one, 0, 0x66);
  Out(*one, 1, 0x02);
  EXPECT_EQ(pic.Acknowledge(), 0x24);
}

TEST_F(PicTest, ASpecificEoiEndsThatPin) {
  Pulse(4);
  pic.Acknowledge();
  Pulse(2 + 1);
  pic.Acknowledge();
  EXPECT_EQ(InService(*one), 0x18);
  Out(*one, 0, 0x64);
  EXPECT_EQ(InService(*one), 0x08);
}

TEST_F(PicTest, AutoEoiLeavesNothingInService) {
  Initialise(0x03);
  Pulse(4);
  EXPECT_EQ(pic.Acknowledge(), 0x24);
  EXPECT_EQ(InService(*one), 0);
  Pulse(5);
  EXPECT_EQ(pic.Acknowledge(), 0x25);
}

TEST_F(PicTest, RotateOnAutoEoi) {
  Initialise(0x03);
  Out(*one, 0, 0x80);
  Pulse(5);
  EXPECT_EQ(pic.Acknowledge(), 0x25);
  Pulse(5);
  Pulse(6);
  EXPECT_EQ(pic.Acknowledge(), 0x26);
  EXPECT_EQ(pic.Acknowledge(), 0x25);
  Out(*one, 0, 0x00);
  Pulse(4);
  pic.Acknowledge();  // priorities stay: 6 was lowest
  Pulse(6);
  Pulse(7);
  EXPECT_EQ(pic.Acknowledge(), 0x26);
}

TEST_F(PicTest, RotateOnNonSpecificEoi) {
  Pulse(5);
  pic.Acknowledge();
  Out(*one, 0, 0xa0);
  Pulse(5);
  Pulse(6);
  EXPECT_EQ(pic.Acknowledge(), 0x26);
}

TEST_F(PicTest, RotateOnSpecificEoi) {
  Pulse(5);
  pic.Acknowledge();
  Out(*one, 0, 0xe5);
  EXPECT_EQ(InService(*one), 0);
  Pulse(5);
  Pulse(7);
  EXPECT_EQ(pic.Acknowledge(), 0x27);
}

TEST_F(PicTest, SetPriorityEndsNothing) {
  Pulse(4);
  pic.Acknowledge();
  Out(*one, 0, 0xc5);
  EXPECT_EQ(InService(*one), 0x10);
  Out(*one, 0, 0x64);
  Pulse(0);
  Pulse(6);
  EXPECT_EQ(pic.Acknowledge(), 0x26);
}

TEST_F(PicTest, TheSecondaryComesThroughPinTwo) {
  Pulse(12);
  EXPECT_EQ(Requested(*one), 0x04);
  EXPECT_EQ(pic.Acknowledge(), 0x2c);
  EXPECT_EQ(InService(*one), 0x04);
  EXPECT_EQ(InService(*two), 0x10);
  Out(*two, 0, 0x20);
  Out(*one, 0, 0x20);
  EXPECT_EQ(InService(*one), 0);
}

TEST_F(PicTest, TwoInterruptsOfTheSecondaryFollowEachOther) {
  Pulse(12);
  Pulse(9);
  EXPECT_EQ(pic.Acknowledge(), 0x29);
  Out(*two, 0, 0x20);
  Out(*one, 0, 0x20);
  EXPECT_EQ(pic.Acknowledge(), 0x2c);
}

TEST_F(PicTest, FullyNestedBlocksTheSecondaryWhileItIsServed) {
  Pulse(12);
  pic.Acknowledge();
  Pulse(9);
  EXPECT_FALSE(pic.pending());
}

TEST_F(PicTest, SpecialFullyNestedLetsTheSecondaryInterruptItself) {
  Initialise(0x11);
  Pulse(12);
  EXPECT_EQ(pic.Acknowledge(), 0x2c);
  Pulse(9);
  EXPECT_EQ(pic.Acknowledge(), 0x29);
}

TEST_F(PicTest, ARequestThatGoesAwayIsSpuriousPinSeven) {
  Pulse(12);
  Out(*two, 1, 0xff);
  EXPECT_EQ(pic.Acknowledge(), 0x2f);
  EXPECT_EQ(InService(*two), 0);
}

TEST_F(PicTest, NothingDrivesTheCascadePinFromOutside) {
  Pulse(2);
  EXPECT_FALSE(pic.pending());
}

TEST_F(PicTest, PollAcknowledgesAndNamesThePin) {
  Out(*one, 0, 0x0c);
  EXPECT_EQ(In(*one, 0), 0);
  Pulse(3);
  Out(*one, 0, 0x0c);
  EXPECT_EQ(In(*one, 1), 0x83);
  EXPECT_EQ(InService(*one), 0x08);
  EXPECT_EQ(In(*one, 1), 0);  // the mask again
}

TEST_F(PicTest, SpecialMaskModeLetsLowerPinsThrough) {
  Pulse(3);
  pic.Acknowledge();
  Pulse(6);
  EXPECT_FALSE(pic.pending());
  Out(*one, 1, 0x08);
  Out(*one, 0, 0x68);
  EXPECT_EQ(pic.Acknowledge(), 0x26);
  Out(*one, 0, 0x20);  // ends 6: 3 is masked
  EXPECT_EQ(InService(*one), 0x08);
  Out(*one, 0, 0x48);
  Pulse(6);
  EXPECT_FALSE(pic.pending());
}

TEST_F(PicTest, EachInterruptIsRequestedOnce) {
  Pulse(4);
  EXPECT_EQ(requests, 1);
  In(*one, 1);
  EXPECT_EQ(requests, 1);
  Pulse(3);
  EXPECT_EQ(requests, 1);
  pic.Acknowledge();
  EXPECT_EQ(requests, 1);
  Out(*one, 0, 0x20);
  EXPECT_EQ(requests, 2);
}

TEST_F(PicTest, Hostile_PinsThatDoNotExist) {
  pic.SetPin(16, true);
  pic.SetPin(UINT32_MAX, true);
  EXPECT_FALSE(pic.pending());
}

TEST_F(PicTest, Hostile_AnyOffsetAndSize) {
  Flood(*one, Pic::kPortLength);
  Flood(*two, Pic::kPortLength);
  Flood(*elcr, Pic::kPortLength);
  while (pic.Acknowledge()) {
  }
}

}  // namespace
}  // namespace crosvm::platform

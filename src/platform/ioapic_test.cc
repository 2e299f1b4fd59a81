#include "platform/ioapic.h"

#include <gtest/gtest.h>

#include <cstring>

#include "platform/testing_fakes.h"

namespace crosvm::platform {
namespace {

using namespace testing;
using hypervisor::MsiMessage;

struct FakeOutput : IoapicOutput {
  void Route(uint32_t pin, const MsiMessage& message) override {
    routes.emplace_back(pin, message);
  }
  void Deliver(uint32_t pin, const MsiMessage& message) override {
    delivered.emplace_back(pin, message);
  }
  std::vector<std::pair<uint32_t, MsiMessage>> routes;
  std::vector<std::pair<uint32_t, MsiMessage>> delivered;
};

constexpr uint32_t kLevelBit = 1 << 15;
constexpr uint32_t kMaskBit = 1 << 16;
constexpr uint32_t kRemoteIrrBit = 1 << 14;

class IoapicTest : public ::testing::Test {
 protected:
  IoapicTest() : IoapicTest(24) {}
  explicit IoapicTest(uint32_t pins) {
    auto owner = std::make_unique<FakeOutput>();
    output = owner.get();
    ioapic = std::make_unique<Ioapic>(pins, std::move(owner));
  }
  void Write32(uint64_t offset, uint32_t value) {
    uint8_t bytes[4];
    std::memcpy(bytes, &value, 4);
    ioapic->Write(offset, bytes);
  }
  uint32_t Read32(uint64_t offset) {
    uint8_t bytes[4] = {};
    ioapic->Read(offset, bytes);
    uint32_t value = 0;
    std::memcpy(&value, bytes, 4);
    return value;
  }
  void Set(uint8_t index, uint32_t value) {
    Write32(0, index);
    Write32(0x10, value);
  }
  uint32_t Get(uint8_t index) {
    Write32(0, index);
    return Read32(0x10);
  }
  void SetEntry(uint8_t pin, uint32_t low, uint8_t destination = 0) {
    Set(static_cast<uint8_t>(0x11 + 2 * pin), uint32_t{destination} << 24);
    Set(static_cast<uint8_t>(0x10 + 2 * pin), low);
  }
  uint32_t Entry(uint8_t pin) { return Get(static_cast<uint8_t>(0x10 + 2 * pin)); }
  size_t count() const { return output->delivered.size(); }

  FakeOutput* output;
  std::unique_ptr<Ioapic> ioapic;
};

TEST_F(IoapicTest, SelectKeepsEightBits) {
  Write32(0, 0x1ff);
  EXPECT_EQ(Read32(0), 0xffu);
}

TEST_F(IoapicTest, VersionTellsThePins) {
  EXPECT_EQ(Get(1), 0x0017'0020u);
  Set(1, 0xffff'ffff);
  EXPECT_EQ(Get(1), 0x0017'0020u);
}

TEST_F(IoapicTest, IdKeepsFourBitsAndIsTheArbitrationId) {
  Set(0, 0xffff'ffff);
  EXPECT_EQ(Get(0), 0x0f00'0000u);
  EXPECT_EQ(Get(2), 0x0f00'0000u);
  Set(2, 0);
  EXPECT_EQ(Get(2), 0x0f00'0000u);
}

TEST_F(IoapicTest, EntriesAreMaskedAtFirst) {
  for (uint8_t pin = 0; pin < 24; ++pin) {
    EXPECT_EQ(Entry(pin), kMaskBit);
    ioapic->SetPin(pin, true);
  }
  EXPECT_EQ(count(), 0u);
}

TEST_F(IoapicTest, PinsThatDoNotExistAreIgnored) {
  ioapic->SetPin(24, true);
  ioapic->SetPin(UINT32_MAX, true);
  Set(0x10 + 2 * 24, 0x31);
  EXPECT_EQ(Get(0x10 + 2 * 24), 0u);
  Set(0xff, 0x31);
  Set(0x0f, 0x31);
  EXPECT_EQ(Get(0x0f), 0u);
  EXPECT_EQ(count(), 0u);
  EXPECT_TRUE(output->routes.empty());
}

TEST_F(IoapicTest, AnEdgeIsDeliveredOnceUntilThePinFalls) {
  SetEntry(4, 0x31);
  ioapic->SetPin(4, true);
  ioapic->SetPin(4, true);
  EXPECT_EQ(count(), 1u);
  ioapic->SetPin(4, false);
  EXPECT_EQ(count(), 1u);
  ioapic->SetPin(4, true);
  EXPECT_EQ(count(), 2u);
  EXPECT_EQ(Entry(4) & kRemoteIrrBit, 0u);
}

TEST_F(IoapicTest, TheMessageCarriesEveryField) {
  SetEntry(4, 0x31 | 1 << 8 | 1 << 11 | kLevelBit, 0xa5);
  ioapic->SetPin(4, true);
  ASSERT_EQ(count(), 1u);
  EXPECT_EQ(output->delivered[0].first, 4u);
  EXPECT_EQ(output->delivered[0].second.address, 0xfee00000u | 0xa5u << 12 | 4u);
  EXPECT_EQ(output->delivered[0].second.data, 0x31u | 1u << 8 | 1u << 14 | 1u << 15);
}

TEST_F(IoapicTest, AnEdgeOnAMaskedPinIsLost) {
  SetEntry(4, 0x31 | kMaskBit);
  ioapic->SetPin(4, true);
  SetEntry(4, 0x31);
  EXPECT_EQ(count(), 0u);
  ioapic->SetPin(4, false);
  ioapic->SetPin(4, true);
  EXPECT_EQ(count(), 1u);
}

TEST_F(IoapicTest, ALevelIsServicedOnUnmask) {
  SetEntry(4, 0x31 | kLevelBit | kMaskBit);
  ioapic->SetPin(4, true);
  EXPECT_EQ(count(), 0u);
  SetEntry(4, 0x31 | kLevelBit);
  EXPECT_EQ(count(), 1u);
}

TEST_F(IoapicTest, ALevelThatFellBeforeUnmaskIsNotDelivered) {
  SetEntry(4, 0x31 | kLevelBit | kMaskBit);
  ioapic->SetPin(4, true);
  ioapic->SetPin(4, false);
  SetEntry(4, 0x31 | kLevelBit);
  EXPECT_EQ(count(), 0u);
}

TEST_F(IoapicTest, RemoteIrrHoldsFurtherLevelsBackUntilEoi) {
  SetEntry(4, 0x31 | kLevelBit);
  ioapic->SetPin(4, true);
  EXPECT_NE(Entry(4) & kRemoteIrrBit, 0u);
  ioapic->SetPin(4, false);
  ioapic->SetPin(4, true);
  EXPECT_EQ(count(), 1u);
  ioapic->EndOfInterrupt(0x31);
  EXPECT_EQ(count(), 2u);
  ioapic->SetPin(4, false);
  ioapic->EndOfInterrupt(0x31);
  EXPECT_EQ(count(), 2u);
  EXPECT_EQ(Entry(4) & kRemoteIrrBit, 0u);
}

TEST_F(IoapicTest, AStillAssertedLevelIsReinjectedAtEoi) {
  SetEntry(4, 0x31 | kLevelBit);
  ioapic->SetPin(4, true);
  for (size_t i = 2; i < 6; ++i) {
    ioapic->EndOfInterrupt(0x31);
    EXPECT_EQ(count(), i);
  }
}

TEST_F(IoapicTest, TheEoiRegisterDoesTheSame) {
  SetEntry(4, 0x31 | kLevelBit);
  ioapic->SetPin(4, true);
  Write32(0x40, 0x31);
  EXPECT_EQ(count(), 2u);
}

TEST_F(IoapicTest, AnEoiOfAnotherVectorChangesNothing) {
  SetEntry(4, 0x31 | kLevelBit);
  ioapic->SetPin(4, true);
  ioapic->EndOfInterrupt(0x32);
  EXPECT_EQ(count(), 1u);
  EXPECT_NE(Entry(4) & kRemoteIrrBit, 0u);
}

TEST_F(IoapicTest, AnEoiEndsEveryPinOfTheVector) {
  SetEntry(4, 0x31 | kLevelBit);
  SetEntry(5, 0x31 | kLevelBit);
  ioapic->SetPin(4, true);
  ioapic->SetPin(5, true);
  EXPECT_EQ(count(), 2u);
  ioapic->EndOfInterrupt(0x31);
  EXPECT_EQ(count(), 4u);
}

TEST_F(IoapicTest, AnEoiOfAnEdgePinChangesNothing) {
  SetEntry(4, 0x31);
  ioapic->SetPin(4, true);
  ioapic->EndOfInterrupt(0x31);
  EXPECT_EQ(count(), 1u);
}

TEST_F(IoapicTest, SeveralLevelPinsAreIndependent) {
  SetEntry(4, 0x31 | kLevelBit);
  SetEntry(5, 0x41 | kLevelBit);
  ioapic->SetPin(4, true);
  ioapic->SetPin(5, true);
  ASSERT_EQ(count(), 2u);
  EXPECT_EQ(output->delivered[1].second.data & 0xff, 0x41u);
  ioapic->EndOfInterrupt(0x41);
  ASSERT_EQ(count(), 3u);
  EXPECT_EQ(output->delivered[2].first, 5u);
}

TEST_F(IoapicTest, SeveralEdgePinsAreIndependent) {
  SetEntry(4, 0x31);
  SetEntry(5, 0x41);
  ioapic->SetPin(4, true);
  ioapic->SetPin(5, true);
  ioapic->SetPin(4, false);
  ioapic->SetPin(4, true);
  EXPECT_EQ(count(), 3u);
}

TEST_F(IoapicTest, RemoteIrrAndDeliveryStatusAreReadOnly) {
  SetEntry(4, 0x31 | kLevelBit | kMaskBit | kRemoteIrrBit | 1 << 12);
  EXPECT_EQ(Entry(4), 0x31u | kLevelBit | kMaskBit);
  SetEntry(4, 0x31 | kLevelBit);
  ioapic->SetPin(4, true);
  SetEntry(4, 0x31 | kLevelBit);
  EXPECT_NE(Entry(4) & kRemoteIrrBit, 0u);
  EXPECT_EQ(count(), 1u);
}

TEST_F(IoapicTest, SwitchingToEdgeClearsRemoteIrr) {
  SetEntry(4, 0x31 | kLevelBit);
  ioapic->SetPin(4, true);
  ioapic->SetPin(4, false);
  SetEntry(4, 0x31);
  EXPECT_EQ(Entry(4) & kRemoteIrrBit, 0u);
  SetEntry(4, 0x31 | kLevelBit);
  ioapic->SetPin(4, true);
  EXPECT_EQ(count(), 2u);
}

TEST_F(IoapicTest, MaskingKeepsRemoteIrr) {
  SetEntry(4, 0x31 | kLevelBit);
  ioapic->SetPin(4, true);
  SetEntry(4, 0x31 | kLevelBit | kMaskBit);
  EXPECT_NE(Entry(4) & kRemoteIrrBit, 0u);
  ioapic->EndOfInterrupt(0x31);
  EXPECT_EQ(Entry(4) & kRemoteIrrBit, 0u);
  EXPECT_EQ(count(), 1u);
}

TEST_F(IoapicTest, PolarityIsKeptAndDoesNotInvert) {
  SetEntry(4, 0x31 | 1 << 13 | kLevelBit);
  EXPECT_EQ(count(), 0u);
  EXPECT_NE(Entry(4) & 1 << 13, 0u);
  ioapic->SetPin(4, true);
  EXPECT_EQ(count(), 1u);
}

TEST_F(IoapicTest, ReservedBitsReadAsZero) {
  Set(0x18, 0xffff'ffff);
  Set(0x19, 0xffff'ffff);
  EXPECT_EQ(Get(0x18), 0x0001'afffu);
  EXPECT_EQ(Get(0x19), 0xff00'0000u);
}

TEST_F(IoapicTest, ARouteFollowsTheEntryButNotItsMask) {
  SetEntry(4, 0x31 | kMaskBit);
  ASSERT_EQ(output->routes.size(), 1u);
  EXPECT_EQ(output->routes[0].first, 4u);
  EXPECT_EQ(output->routes[0].second.data, 0x31u);
  SetEntry(4, 0x31);
  EXPECT_EQ(output->routes.size(), 1u);
  SetEntry(4, 0x31, 3);
  EXPECT_EQ(output->routes.size(), 2u);
}

TEST_F(IoapicTest, OnlyWholeAccessesReachTheWindow) {
  Write32(0, 0x18);
  const uint8_t two[] = {0x31, 0};
  ioapic->Write(0x10, two);
  EXPECT_EQ(Read32(0x10), kMaskBit);
  uint8_t short_read[2] = {0xff, 0xff};
  ioapic->Read(0x10, short_read);
  EXPECT_EQ(short_read[0], 0);
  const uint8_t select[] = {0x01};
  ioapic->Write(0, select);
  EXPECT_EQ(Read32(0x10), 0x0017'0020u);
}

TEST_F(IoapicTest, Hostile_AnyOffsetAndSize) {
  Flood(*ioapic, 0x60);
  EXPECT_EQ(Get(1), 0x0017'0020u);
}

class WideIoapicTest : public IoapicTest {
 protected:
  WideIoapicTest() : IoapicTest(Ioapic::kMaxPins) {}
};

TEST_F(WideIoapicTest, TheLastOfAllPinsWorks) {
  EXPECT_EQ(Get(1), 0x0077'0020u);
  SetEntry(119, 0x31);
  ioapic->SetPin(119, true);
  EXPECT_EQ(count(), 1u);
}

}  // namespace
}  // namespace crosvm::platform

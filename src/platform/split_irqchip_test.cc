#include "platform/split_irqchip.h"

#include <gtest/gtest.h>

#include "event/test_loop.h"
#include "platform/testing_fakes.h"

namespace crosvm::platform {
namespace {

using namespace testing;
using hypervisor::Gsi;

struct CountingOutput : IoapicOutput {
  explicit CountingOutput(int& delivered_count) : delivered(delivered_count) {}
  void Route(uint32_t, const hypervisor::MsiMessage&) override {}
  void Deliver(uint32_t, const hypervisor::MsiMessage&) override { ++delivered; }
  int& delivered;
};

class SplitIrqChipTest : public ::testing::Test {
 protected:
  void Put(bus::Bus& bus, uint64_t address, std::vector<uint8_t> bytes) {
    ASSERT_TRUE(bus.Write(address, bytes));
  }
  void StartPics() {
    for (const uint64_t base : {uint64_t{0x20}, uint64_t{0xa0}}) {
      Put(ports, base, {0x11});
      Put(ports, base + 1, {static_cast<uint8_t>(base == 0x20 ? 0x20 : 0x28)});
      Put(ports, base + 1, {0x04});
      Put(ports, base + 1, {0x01});
    }
  }
  void SetEntry(uint8_t pin, uint32_t low) {
    Put(mmio, 0xfec00000, {static_cast<uint8_t>(0x10 + 2 * pin), 0, 0, 0});
    Put(mmio, 0xfec00010,
        {static_cast<uint8_t>(low), static_cast<uint8_t>(low >> 8), static_cast<uint8_t>(low >> 16),
         0});
  }

  event::TestLoop loop;
  int delivered = 0;
  int requests = 0;
  SplitIrqChip chip{loop,
                    std::make_unique<CountingOutput>(delivered),
                    [this] { ++requests; },
                    {.clock = [this] { return loop.Now(); }}};
  bus::Bus ports{"I/O ports"};
  bus::Bus mmio{"MMIO"};
};

TEST_F(SplitIrqChipTest, AnEdgeLineReachesBothChips) {
  ASSERT_TRUE(chip.Insert(ports, mmio, 0xfec00000).has_value());
  StartPics();
  SetEntry(4, 0x31);
  const auto line = chip.MakeEdgeLine(Gsi(4));
  line->Raise();
  line->Lower();
  EXPECT_EQ(delivered, 1);
  EXPECT_EQ(requests, 1);
  EXPECT_EQ(chip.pic().Acknowledge(), 0x24);
  line->Raise();
  EXPECT_EQ(delivered, 2);
}

TEST_F(SplitIrqChipTest, ASharedLevelIsUpWhileAnyLineIs) {
  ASSERT_TRUE(chip.Insert(ports, mmio, 0xfec00000).has_value());
  SetEntry(20, 0x31 | 1 << 15);
  const auto a = chip.MakeLevelLine(Gsi(20));
  auto b = chip.MakeLevelLine(Gsi(20));
  a->Raise();
  a->Raise();
  b->Raise();
  a->Lower();
  EXPECT_EQ(delivered, 1);
  chip.ioapic().EndOfInterrupt(0x31);
  EXPECT_EQ(delivered, 2);
  b.reset();  // a line that goes away lets go
  chip.ioapic().EndOfInterrupt(0x31);
  EXPECT_EQ(delivered, 2);
  EXPECT_FALSE(chip.pic().pending());
}

TEST_F(SplitIrqChipTest, TheTimerDrivesGsiZero) {
  ASSERT_TRUE(chip.Insert(ports, mmio, 0xfec00000).has_value());
  StartPics();
  Put(ports, 0x43, {0x34});
  Put(ports, 0x40, {0x00});
  Put(ports, 0x40, {0x10});
  loop.RunUntilIdle();
  loop.AdvanceTime(std::chrono::milliseconds(4));
  EXPECT_EQ(chip.pic().Acknowledge(), 0x20);
}

TEST_F(SplitIrqChipTest, ATakenAddressIsAnError) {
  ASSERT_TRUE(chip.Insert(ports, mmio, 0xfec00000).has_value());
  EXPECT_FALSE(chip.Insert(ports, mmio, 0xfec00000).has_value());
}

}  // namespace
}  // namespace crosvm::platform

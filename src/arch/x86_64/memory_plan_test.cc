#include "arch/x86_64/memory_plan.h"

#include <gtest/gtest.h>

namespace crosvm::x86_64 {
namespace {

constexpr uint64_t kMib = 1 << 20;
constexpr uint64_t kGib = 1 << 30;

TEST(MemoryPlan, SmallMemoryIsOneRegion) {
  const Result<MemoryLayout> layout = PlanMemory(256 * kMib, 0, 40);
  ASSERT_TRUE(layout.has_value());
  ASSERT_EQ(layout->Regions().size(), 1U);
  EXPECT_EQ(layout->ram[0].start, GuestAddr(0));
  EXPECT_EQ(layout->ram[0].size, 256 * kMib);
  EXPECT_EQ(layout->low_ram_end, 256 * kMib);
  EXPECT_EQ(layout->high_ram_end, k4Gib);
  EXPECT_EQ(layout->pci_low.base, 0xd000'0000U);
  EXPECT_EQ(layout->pci_low.end(), kEcamBase);
  EXPECT_EQ(layout->pci_high.base, k4Gib);
  EXPECT_EQ(layout->pci_high.end(), 0xfd'0000'0000U);
}

TEST(MemoryPlan, LargeMemoryGoesAroundTheHole) {
  const Result<MemoryLayout> layout = PlanMemory(8 * kGib + 4096, 0, 46);
  ASSERT_TRUE(layout.has_value());
  ASSERT_EQ(layout->ram.size(), 2U);
  EXPECT_EQ(layout->ram[0].size, 0xd000'0000U);
  EXPECT_EQ(layout->ram[1].start, GuestAddr(k4Gib));
  EXPECT_EQ(layout->ram[1].size, 8 * kGib + 4096 - 0xd000'0000U);
  EXPECT_EQ(layout->pci_high.base % (2 * kMib), 0U);
  EXPECT_GE(layout->pci_high.base, layout->high_ram_end);
  EXPECT_EQ(layout->pci_high.end(), uint64_t{1} << 46);
}

TEST(MemoryPlan, ExactlyTheHoleNeedsNoHighRegion) {
  EXPECT_EQ(PlanMemory(0xd000'0000, 0, 40)->ram.size(), 1U);
  EXPECT_EQ(PlanMemory(0xd000'1000, 0, 40)->ram.size(), 2U);
}

TEST(MemoryPlan, FirmwareEndsAtFourGib) {
  const Result<MemoryLayout> layout = PlanMemory(5 * kGib, 2 * kMib, 40);
  ASSERT_TRUE(layout.has_value());
  const std::vector<memory::RegionLayout> regions = layout->Regions();
  ASSERT_EQ(regions.size(), 3U);
  EXPECT_EQ(regions[1].start, GuestAddr(k4Gib - 2 * kMib));
  EXPECT_EQ(regions[1].size, 2 * kMib);
  EXPECT_EQ(regions[2].start, GuestAddr(k4Gib));
}

TEST(MemoryPlan, Hostile_ImpossibleSizesAreRefused) {
  EXPECT_FALSE(PlanMemory(0, 0, 40).has_value());
  EXPECT_FALSE(PlanMemory(kMib, 0, 40).has_value());
  EXPECT_FALSE(PlanMemory(256 * kMib + 1, 0, 40).has_value());
  EXPECT_FALSE(PlanMemory(UINT64_MAX & ~uint64_t{4095}, 0, 46).has_value());
  EXPECT_FALSE(PlanMemory(2048 * kGib, 0, 40).has_value());
  EXPECT_TRUE(PlanMemory(2048 * kGib, 0, 46).has_value());
  EXPECT_FALSE(PlanMemory(256 * kMib, 32 * kMib, 40).has_value());
  EXPECT_FALSE(PlanMemory(256 * kMib, 100, 40).has_value());
}

TEST(MemoryPlan, MapIsSortedWithoutOverlapAndCoversTheRam) {
  for (const bool large_acpi : {false, true}) {
    const Result<MemoryLayout> layout = PlanMemory(8 * kGib, 0, 40);
    uint64_t end = 0;
    uint64_t ram = 0;
    for (const loader::MemoryMapEntry& entry : MemoryMap(*layout, large_acpi)) {
      EXPECT_GE(entry.range.start.value(), end);
      end = entry.range.end();
      if (entry.type == loader::MemoryType::kRam) ram += entry.range.size;
    }
    EXPECT_EQ(ram, 8 * kGib - (0x10'0000 - kBaseMemoryEnd) - (large_acpi ? kLargeAcpiMax : 0));
  }
}

TEST(MemoryPlan, MapReservesWhatIsNoRam) {
  const std::vector<loader::MemoryMapEntry> map = MemoryMap(*PlanMemory(64 * kMib, 0, 40), false);
  const auto reserved = [&map](uint64_t address) {
    for (const loader::MemoryMapEntry& entry : map) {
      if (address >= entry.range.start.value() && address < entry.range.end()) {
        return entry.type == loader::MemoryType::kReserved;
      }
    }
    return false;
  };
  for (const uint64_t address :
       {kMpFloatingPointer.value(), kRsdp.value(), kSmbios.value(), kEcamBase, kIoApicBase,
        kLocalApicBase, kTssBase, kIdentityMapBase}) {
    EXPECT_TRUE(reserved(address)) << std::hex << address;
  }
  EXPECT_FALSE(reserved(0x10'0000));
  EXPECT_FALSE(reserved(kPciLowBase));
}

TEST(Layout, FixedPlacesDoNotOverlap) {
  EXPECT_LE(kPageDirectories.value() + 4 * kPageSize, kCommandLine.value());
  EXPECT_EQ(kCommandLine.value() + kCommandLineMax, kMpFloatingPointer.value());
  EXPECT_LE(kSmbios.value() + kSmbiosMax, kMpConfiguration.value());
  EXPECT_LE(kMpConfiguration.value() + kMpConfigurationMax, kLargeAcpi.value());
  EXPECT_LE(kLargeAcpi.value() + kLargeAcpiMax, kKernelLowest.value());
  EXPECT_EQ(kPciLowBase + kPciLowSize, kEcamBase);
  EXPECT_LE(kEcamBase + kEcamReserved, kIoApicBase);
  EXPECT_LE(kTssBase + 3 * kPageSize, k4Gib - kFirmwareMax);
  EXPECT_GE(kPciIoBase, kAcpiPmBase + kAcpiPmSize);
}

TEST(Layout, NeighboursDoNotShareAnInterrupt) {
  EXPECT_EQ(IntxGsi(0, 0), 9U);
  EXPECT_EQ(IntxGsi(1, 0), 10U);
  EXPECT_EQ(IntxGsi(3, 1), 9U);
  EXPECT_EQ(IntxGsi(31, 3), 9U + 34 % 4);
}

}  // namespace
}  // namespace crosvm::x86_64

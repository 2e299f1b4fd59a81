#include "arch/x86_64/machine.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "arch/x86_64/layout.h"
#include "hypervisor/fake/fake_vm.h"

namespace crosvm::x86_64 {
namespace {

using hypervisor::FakeVm;
using hypervisor::Gsi;
using hypervisor::IrqRoute;

TEST(Machine, KernelModeMakesTheChips) {
  FakeVm vm;
  ASSERT_TRUE(PrepareVm(vm, IrqChipMode::kKernel, 4).has_value());
  EXPECT_EQ(vm.x86().tss_address, kTssBase);
  EXPECT_EQ(vm.x86().identity_map_address, kIdentityMapBase);
  EXPECT_TRUE(vm.x86().irq_chip);
  EXPECT_EQ(vm.x86().pit_flags, uint32_t{KVM_PIT_SPEAKER_DUMMY});
  EXPECT_FALSE(vm.x86().split_pins.has_value());
  EXPECT_FALSE(vm.x86().x2apic_ids);
}

TEST(Machine, SplitModeReservesPins) {
  FakeVm vm;
  ASSERT_TRUE(PrepareVm(vm, IrqChipMode::kSplit, 300).has_value());
  EXPECT_FALSE(vm.x86().irq_chip);
  EXPECT_FALSE(vm.x86().pit_flags.has_value());
  EXPECT_EQ(vm.x86().split_pins, 120U);
  EXPECT_TRUE(vm.x86().x2apic_ids);
  EXPECT_EQ(FirstMsiGsi(IrqChipMode::kSplit), Gsi(120));
}

TEST(Machine, LowInterruptsReachBothControllers) {
  const std::vector<IrqRoute> routes = BaseIrqRoutes(IrqChipMode::kKernel);
  EXPECT_EQ(routes.size(), 40U);
  for (uint32_t gsi = 0; gsi < 24; ++gsi) {
    EXPECT_EQ(std::ranges::count(routes, Gsi(gsi), &IrqRoute::gsi), gsi < 16 ? 2 : 1);
  }
  for (const IrqRoute& route : routes) {
    const auto& chip = std::get<hypervisor::IrqChipRoute>(route.target);
    const bool secondary = chip.chip == hypervisor::IrqChipId::kPicSecondary;
    EXPECT_EQ(chip.pin, route.gsi.value() - (secondary ? 8 : 0));
  }
  EXPECT_EQ(FirstMsiGsi(IrqChipMode::kKernel), Gsi(24));
  EXPECT_TRUE(BaseIrqRoutes(IrqChipMode::kSplit).empty());
}

}  // namespace
}  // namespace crosvm::x86_64

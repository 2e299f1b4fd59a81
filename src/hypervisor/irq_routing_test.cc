#include "hypervisor/irq_routing.h"

#include <gtest/gtest.h>

#include "hypervisor/fake/fake_vm.h"

namespace crosvm::hypervisor {
namespace {

std::vector<IrqRoute> Base() {
  return {{.gsi = Gsi(0), .target = IrqChipRoute{IrqChipId::kPicPrimary, 0}},
          {.gsi = Gsi(0), .target = IrqChipRoute{IrqChipId::kIoapic, 2}}};
}

TEST(IrqRouterTest, StartInstallsTheBaseTable) {
  FakeVm vm;
  IrqRouter router(vm, Base(), Gsi(24));
  ASSERT_TRUE(router.Start().has_value());
  ASSERT_EQ(vm.Routes().size(), 2U);
  EXPECT_EQ(std::get<IrqChipRoute>(vm.Routes()[1].target).pin, 2U);
}

TEST(IrqRouterTest, AllocatedGsiHasNoRouteUntilSet) {
  FakeVm vm;
  IrqRouter router(vm, Base(), Gsi(24));
  const Gsi gsi = *router.AllocateMsi();
  EXPECT_EQ(gsi, Gsi(24));
  EXPECT_EQ(vm.route_updates(), 0U);
  ASSERT_TRUE(router.SetMsi(gsi, {.address = 0xfee00000, .data = 0x41}).has_value());
  ASSERT_TRUE(vm.Route(gsi).has_value());
  EXPECT_EQ(std::get<MsiMessage>(vm.Route(gsi)->target).data, 0x41U);
  EXPECT_EQ(vm.Routes().size(), 3U);
}

TEST(IrqRouterTest, UnchangedMessageIsNotCommittedAgain) {
  FakeVm vm;
  IrqRouter router(vm, {}, Gsi(24));
  const Gsi gsi = *router.AllocateMsi();
  ASSERT_TRUE(router.SetMsi(gsi, {.address = 0xfee00000, .data = 1}).has_value());
  ASSERT_TRUE(router.SetMsi(gsi, {.address = 0xfee00000, .data = 1}).has_value());
  EXPECT_EQ(vm.route_updates(), 1U);
}

TEST(IrqRouterTest, FreedNumberIsGivenOutAgainWithoutRoute) {
  FakeVm vm;
  IrqRouter router(vm, Base(), Gsi(24));
  const Gsi first = *router.AllocateMsi();
  const Gsi second = *router.AllocateMsi();
  ASSERT_TRUE(router.SetMsi(first, {.address = 0xfee00000, .data = 1}).has_value());
  ASSERT_TRUE(router.SetMsi(second, {.address = 0xfee00000, .data = 2}).has_value());
  router.FreeMsi(first);
  EXPECT_FALSE(vm.Route(first).has_value());
  EXPECT_TRUE(vm.Route(second).has_value());
  EXPECT_EQ(*router.AllocateMsi(), first);
}

TEST(IrqRouterTest, RunsOutAtTheLimit) {
  FakeVm vm;
  IrqRouter router(vm, {}, Gsi(24), 26);
  EXPECT_TRUE(router.AllocateMsi().has_value());
  EXPECT_TRUE(router.AllocateMsi().has_value());
  const Result<Gsi> third = router.AllocateMsi();
  ASSERT_FALSE(third.has_value());
  EXPECT_EQ(third.error().kind(), ErrorKind::kBusy);
}

TEST(IrqRouterTest, RefusedMessageLeavesTheOldOne) {
  FakeVm vm;
  IrqRouter router(vm, {}, Gsi(24));
  const Gsi gsi = *router.AllocateMsi();
  ASSERT_TRUE(router.SetMsi(gsi, {.address = 0xfee00000, .data = 1}).has_value());
  vm.FailNext(ErrorKind::kInvalidArgument);
  EXPECT_FALSE(router.SetMsi(gsi, {.address = 0xfee00000, .data = 2}).has_value());
  // Any further commit carries the old message.
  const Gsi other = *router.AllocateMsi();
  ASSERT_TRUE(router.SetMsi(other, {.address = 0xfee00000, .data = 3}).has_value());
  EXPECT_EQ(std::get<MsiMessage>(vm.Route(gsi)->target).data, 1U);
}

TEST(IrqRouterTest, SetOfAnUnallocatedNumberFails) {
  FakeVm vm;
  IrqRouter router(vm, {}, Gsi(24));
  EXPECT_EQ(router.SetMsi(Gsi(24), {}).error().kind(), ErrorKind::kInvalidArgument);
}

}  // namespace
}  // namespace crosvm::hypervisor

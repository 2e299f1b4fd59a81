#include "resources/pci_slot_allocator.h"

#include <gtest/gtest.h>

namespace crosvm::resources {
namespace {

TEST(PciSlotAllocator, LowestDeviceFirstAndStable) {
  PciSlotAllocator slots;
  ASSERT_TRUE(slots.AddBus(0, 1).has_value());
  EXPECT_EQ(*slots.Allocate(0, "a"), (PciSlot{0, 1, 0}));
  EXPECT_EQ(*slots.Allocate(0, "b"), (PciSlot{0, 2, 0}));
  EXPECT_EQ(*slots.Allocate(0, "c"), (PciSlot{0, 3, 0}));
  ASSERT_TRUE(slots.Release({0, 2, 0}).has_value());
  EXPECT_EQ(*slots.Allocate(0, "d"), (PciSlot{0, 2, 0}));
  EXPECT_EQ(*slots.Find({0, 3, 0}), "c");
  EXPECT_EQ(slots.Find({0, 3, 1}), nullptr);
}

TEST(PciSlotAllocator, ADeviceWithAnyFunctionTakenIsSkipped) {
  PciSlotAllocator slots;
  ASSERT_TRUE(slots.AddBus(0).has_value());
  ASSERT_TRUE(slots.AllocateAt({0, 0, 7}, "f").has_value());
  EXPECT_EQ(*slots.Allocate(0, "a"), (PciSlot{0, 1, 0}));
  EXPECT_TRUE(slots.AllocateAt({0, 0, 3}, "g").has_value());
}

TEST(PciSlotAllocator, AFullBusIsBusy) {
  PciSlotAllocator slots;
  ASSERT_TRUE(slots.AddBus(2).has_value());
  for (int i = 0; i < 32; ++i) EXPECT_EQ(slots.Allocate(2, "x")->device, i);
  EXPECT_EQ(slots.Allocate(2, "y").error().kind(), ErrorKind::kBusy);
}

TEST(PciSlotAllocator, WrongAddressesAreRefused) {
  PciSlotAllocator slots;
  ASSERT_TRUE(slots.AddBus(0).has_value());
  ASSERT_TRUE(slots.AddBus(1, 0, 0).has_value());
  EXPECT_EQ(slots.AddBus(1).error().kind(), ErrorKind::kAlreadyExists);
  EXPECT_FALSE(slots.AddBus(3, 0, 32).has_value());
  EXPECT_EQ(slots.Allocate(9, "x").error().kind(), ErrorKind::kNotFound);
  EXPECT_FALSE(slots.AllocateAt({0, 32, 0}, "x").has_value());
  EXPECT_FALSE(slots.AllocateAt({0, 0, 8}, "x").has_value());
  EXPECT_FALSE(slots.AllocateAt({1, 1, 0}, "x").has_value());
  ASSERT_TRUE(slots.AllocateAt({1, 0, 0}, "x").has_value());
  const Status taken = slots.AllocateAt({1, 0, 0}, "y");
  ASSERT_FALSE(taken.has_value());
  EXPECT_NE(taken.error().ToString().find("01:00.0"), std::string::npos);
  EXPECT_EQ(slots.RemoveBus(1).error().kind(), ErrorKind::kBusy);
  ASSERT_TRUE(slots.Release({1, 0, 0}).has_value());
  EXPECT_FALSE(slots.Release({1, 0, 0}).has_value());
  EXPECT_TRUE(slots.RemoveBus(1).has_value());
  EXPECT_FALSE(slots.RemoveBus(1).has_value());
}

}  // namespace
}  // namespace crosvm::resources

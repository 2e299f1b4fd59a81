#include "resources/id_allocator.h"

#include <gtest/gtest.h>

#include <limits>

namespace crosvm::resources {
namespace {

TEST(IdAllocator, LowestFreeFirst) {
  IdAllocator ids("IRQs", 5, 8);
  EXPECT_EQ(*ids.Allocate(), 5u);
  EXPECT_EQ(*ids.Allocate(), 6u);
  EXPECT_EQ(*ids.Allocate(), 7u);
  ASSERT_TRUE(ids.Release(6).has_value());
  EXPECT_EQ(*ids.Allocate(), 6u);
  EXPECT_EQ(*ids.Allocate(), 8u);
  const auto full = ids.Allocate();
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().kind(), ErrorKind::kBusy);
}

TEST(IdAllocator, FixedNumbersAreSkipped) {
  IdAllocator ids("IRQs", 0, 3);
  ASSERT_TRUE(ids.AllocateAt(0).has_value());
  ASSERT_TRUE(ids.AllocateAt(2).has_value());
  EXPECT_EQ(ids.AllocateAt(2).error().kind(), ErrorKind::kBusy);
  EXPECT_EQ(ids.AllocateAt(4).error().kind(), ErrorKind::kInvalidArgument);
  EXPECT_EQ(*ids.Allocate(), 1u);
  EXPECT_EQ(*ids.Allocate(), 3u);
  EXPECT_FALSE(ids.Allocate().has_value());
  EXPECT_EQ(ids.Release(9).error().kind(), ErrorKind::kNotFound);
}

TEST(IdAllocator, TheLargestNumberIsUsable) {
  constexpr uint32_t kMax = std::numeric_limits<uint32_t>::max();
  IdAllocator ids("slots", kMax, kMax);
  EXPECT_EQ(*ids.Allocate(), kMax);
  EXPECT_FALSE(ids.Allocate().has_value());
}

}  // namespace
}  // namespace crosvm::resources

#include "resources/address_allocator.h"

#include <gtest/gtest.h>

#include <limits>

namespace crosvm::resources {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

AddressAllocator Make(AddressRange pool, uint64_t alignment = 1) {
  Result<AddressAllocator> made = AddressAllocator::Create("pool", pool, alignment);
  EXPECT_TRUE(made.has_value());
  return std::move(*made);
}

TEST(AddressAllocator, WrongPoolsAreRefused) {
  EXPECT_FALSE(AddressAllocator::Create("p", {0x1000, 0}, 1).has_value());
  EXPECT_FALSE(AddressAllocator::Create("p", {kMax, 2}, 1).has_value());
  EXPECT_FALSE(AddressAllocator::Create("p", {0, 0x1000}, 0).has_value());
  EXPECT_FALSE(AddressAllocator::Create("p", {0, 0x1000}, 3).has_value());
  EXPECT_TRUE(AddressAllocator::Create("p", {kMax, 1}, 1).has_value());
}

TEST(AddressAllocator, FirstFitFromTheBottom) {
  AddressAllocator a = Make({0x1000, 0x1000});
  EXPECT_EQ(*a.Allocate(0x100, 1, "a"), (AddressRange{0x1000, 0x100}));
  EXPECT_EQ(*a.Allocate(0x100, 1, "b"), (AddressRange{0x1100, 0x100}));
  EXPECT_EQ(*a.Allocate(0x100, 1, "c"), (AddressRange{0x1200, 0x100}));
  ASSERT_TRUE(a.Release(0x1100).has_value());
  EXPECT_EQ(*a.Allocate(0x101, 1, "d"), (AddressRange{0x1300, 0x101}));
  EXPECT_EQ(*a.Allocate(0x80, 1, "e"), (AddressRange{0x1100, 0x80}));
}

TEST(AddressAllocator, TheLargerAlignmentHolds) {
  AddressAllocator a = Make({0x1008, 0x10000}, 0x100);
  EXPECT_EQ(a.Allocate(1, 1, "a")->start, 0x1100u);
  EXPECT_EQ(a.Allocate(1, 0x1000, "b")->start, 0x2000u);
  // The gap that alignment left is still free.
  EXPECT_EQ(a.Allocate(1, 1, "c")->start, 0x1200u);
  EXPECT_TRUE(a.AllocateAt({0x1008, 8}, "d").has_value());
}

TEST(AddressAllocator, AFullPoolIsBusy) {
  AddressAllocator a = Make({0x1000, 0x1000});
  EXPECT_TRUE(a.Allocate(0x1000, 0x1000, "a").has_value());
  const auto full = a.Allocate(1, 1, "b");
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().kind(), ErrorKind::kBusy);
  EXPECT_EQ(a.free_bytes(), 0u);
  EXPECT_FALSE(a.Allocate(0, 1, "c").has_value());
  EXPECT_FALSE(a.Allocate(1, 6, "c").has_value());
}

TEST(AddressAllocator, HighAllocatesFromTheTop) {
  AddressAllocator a = Make({0x1000, 0x1000}, 0x100);
  EXPECT_EQ(a.AllocateHigh(0x10, 1, "a")->start, 0x1f00u);
  EXPECT_EQ(a.AllocateHigh(0x10, 1, "b")->start, 0x1e00u);
  EXPECT_EQ(a.AllocateHigh(0x200, 0x400, "c")->start, 0x1c00u);
  EXPECT_EQ(a.AllocateHigh(0xc00, 0x1000, "c")->start, 0x1000u);
}

TEST(AddressAllocator, AllocateAtTakesExactlyThat) {
  AddressAllocator a = Make({0x1000, 0x1000}, 0x100);
  EXPECT_TRUE(a.AllocateAt({0x1234, 0x10}, "fixed").has_value());
  const Status taken = a.AllocateAt({0x1200, 0x100}, "other");
  ASSERT_FALSE(taken.has_value());
  EXPECT_EQ(taken.error().kind(), ErrorKind::kBusy);
  EXPECT_NE(taken.error().ToString().find("fixed"), std::string::npos);
  EXPECT_FALSE(a.AllocateAt({0x1243, 1}, "other").has_value());
  EXPECT_TRUE(a.AllocateAt({0x1244, 1}, "other").has_value());
  EXPECT_TRUE(a.AllocateAt({0x1233, 1}, "other").has_value());
  EXPECT_TRUE(a.AllocateAt({0x1ff0, 0x10}, "end").has_value());
  for (const AddressRange outside :
       {AddressRange{0xfff, 2}, AddressRange{0x1fff, 2}, AddressRange{0x2000, 1},
        AddressRange{0, 1}, AddressRange{kMax, 1}, AddressRange{0x1000, kMax}}) {
    const Status refused = a.AllocateAt(outside, "outside");
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().kind(), ErrorKind::kInvalidArgument);
  }
}

TEST(AddressAllocator, ReleaseMergesBothNeighbours) {
  AddressAllocator a = Make({0x1000, 0x300});
  ASSERT_TRUE(a.Allocate(0x100, 1, "a").has_value());
  ASSERT_TRUE(a.Allocate(0x100, 1, "b").has_value());
  ASSERT_TRUE(a.Allocate(0x100, 1, "c").has_value());
  ASSERT_TRUE(a.Release(0x1000).has_value());
  ASSERT_TRUE(a.Release(0x1200).has_value());
  EXPECT_EQ(a.free_ranges(), 2u);
  ASSERT_TRUE(a.Release(0x1100).has_value());
  EXPECT_EQ(a.free_ranges(), 1u);
  EXPECT_EQ(*a.Allocate(0x300, 1, "all"), (AddressRange{0x1000, 0x300}));
  EXPECT_FALSE(a.Release(0x1100).has_value());
}

TEST(AddressAllocator, ThePoolMayEndAtTheTop) {
  AddressAllocator a = Make({kMax - 0xff, 0x100});
  EXPECT_TRUE(a.Allocate(0xff, 1, "a").has_value());
  EXPECT_TRUE(a.AllocateAt({kMax, 1}, "b").has_value());
  ASSERT_TRUE(a.Release(kMax).has_value());
  ASSERT_TRUE(a.Release(kMax - 0xff).has_value());
  EXPECT_EQ(a.free_ranges(), 1u);
  EXPECT_FALSE(a.Allocate(1, uint64_t{1} << 63, "c").has_value());
}

TEST(AddressAllocator, ThePoolMayStartAtZero) {
  AddressAllocator a = Make({0, 0x100});
  ASSERT_TRUE(a.AllocateAt({0, 1}, "a").has_value());
  ASSERT_TRUE(a.Release(0).has_value());
  EXPECT_EQ(a.free_ranges(), 1u);
  EXPECT_EQ(a.free_bytes(), 0x100u);
}

TEST(AddressAllocator, FindNamesTheOwner) {
  AddressAllocator a = Make({0x1000, 0x1000});
  ASSERT_TRUE(a.AllocateAt({0x1100, 0x10}, "bar").has_value());
  ASSERT_NE(a.Find(0x110f), nullptr);
  EXPECT_EQ(a.Find(0x110f)->tag, "bar");
  EXPECT_EQ(a.Find(0x1110), nullptr);
  EXPECT_EQ(a.Find(0x10ff), nullptr);
}

TEST(AddressAllocator, AddressInsideChecksTheEnd) {
  AddressAllocator a = Make({0x1000, 0x1000});
  ASSERT_TRUE(a.AllocateAt({0x1100, 0x10}, "bar").has_value());
  EXPECT_EQ(*a.AddressInside(0x1100, 0, 0x10), 0x1100u);
  EXPECT_EQ(*a.AddressInside(0x1100, 0xf, 1), 0x110fu);
  EXPECT_FALSE(a.AddressInside(0x1100, 0xf, 2).has_value());
  EXPECT_FALSE(a.AddressInside(0x1100, kMax, 2).has_value());
  EXPECT_FALSE(a.AddressInside(0x1101, 0, 1).has_value());
}

}  // namespace
}  // namespace crosvm::resources

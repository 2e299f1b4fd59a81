#include "loader/initrd.h"

#include <gtest/gtest.h>

#include "loader/test_file.h"

namespace crosvm::loader {
namespace {

using memory::GuestAddr;
constexpr uint64_t kMib = uint64_t{1} << 20;

TEST(InitrdTest, EndsAtTheEndOfRam) {
  const memory::GuestMemory memory = MakeMemory(4 * kMib);
  EXPECT_EQ(*PlaceInitrd(memory, 0x1800, GuestAddr(kMib), kDefaultInitrdMax),
            GuestAddr(4 * kMib - 0x2000));
}

TEST(InitrdTest, EndsAtTheKernelsLimit) {
  const memory::GuestMemory memory = MakeMemory(4 * kMib);
  EXPECT_EQ(*PlaceInitrd(memory, 0x1000, GuestAddr(kMib), 2 * kMib - 1),
            GuestAddr(2 * kMib - 0x1000));
  EXPECT_EQ(*PlaceInitrd(memory, 0x1000, GuestAddr(kMib), 2 * kMib - 2),
            GuestAddr(2 * kMib - 0x2000));
}

TEST(InitrdTest, StaysInTheRegionOfTheKernel) {
  const memory::RegionLayout layout[] = {{.start = GuestAddr(0), .size = 2 * kMib},
                                         {.start = GuestAddr(8 * kMib), .size = 2 * kMib}};
  const memory::GuestMemory memory = *memory::GuestMemory::Create(layout);
  EXPECT_EQ(*PlaceInitrd(memory, 0x1000, GuestAddr(kMib), UINT64_MAX),
            GuestAddr(2 * kMib - 0x1000));
}

TEST(InitrdTest, FillsExactlyAndNoMore) {
  const memory::GuestMemory memory = MakeMemory(2 * kMib);
  EXPECT_EQ(*PlaceInitrd(memory, kMib, GuestAddr(kMib), UINT64_MAX), GuestAddr(kMib));
  EXPECT_FALSE(PlaceInitrd(memory, kMib + 1, GuestAddr(kMib), UINT64_MAX).has_value());
  EXPECT_FALSE(PlaceInitrd(memory, UINT64_MAX, GuestAddr(kMib), UINT64_MAX).has_value());
  EXPECT_FALSE(PlaceInitrd(memory, 1, GuestAddr(2 * kMib), UINT64_MAX).has_value());
  EXPECT_FALSE(PlaceInitrd(memory, 1, GuestAddr(kMib), 0).has_value());
}

TEST(InitrdTest, LoadsTheFile) {
  const memory::GuestMemory memory = MakeMemory(2 * kMib);
  std::vector<uint8_t> bytes(0x1234, 0x5a);
  bytes.back() = 0xa5;
  const sys::UniqueFd file = MakeFile(bytes);
  const Result<GuestRange> range = LoadInitrd(file, memory, GuestAddr(kMib), 0);
  ASSERT_TRUE(range.has_value()) << range.error().ToString();
  EXPECT_EQ(*range, (GuestRange{GuestAddr(2 * kMib - 0x2000), 0x1234}));
  EXPECT_EQ(*memory.Read<uint8_t>(range->start), 0x5a);
  EXPECT_EQ(*memory.Read<uint8_t>(GuestAddr(range->end() - 1)), 0xa5);
}

TEST(InitrdTest, EmptyFileIsRefused) {
  const sys::UniqueFd file = MakeFile({});
  EXPECT_FALSE(LoadInitrd(file, MakeMemory(kMib), GuestAddr(0), 0).has_value());
}

TEST(FileRangeTest, FileThatEndsEarlyIsNamed) {
  const memory::GuestMemory memory = MakeMemory(kMib);
  const sys::UniqueFd file = MakeFile(std::vector<uint8_t>(100));
  const Status status = LoadRange(file, 50, 60, memory, GuestAddr(0), "the thing");
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind(), ErrorKind::kIo);
  EXPECT_NE(status.error().ToString().find("the thing"), std::string::npos);
  EXPECT_FALSE(LoadRange(file, UINT64_MAX, 60, memory, GuestAddr(0), "x").has_value());
  EXPECT_FALSE(LoadRange(file, 0, 60, memory, GuestAddr(kMib - 1), "x").has_value());
}

}  // namespace
}  // namespace crosvm::loader

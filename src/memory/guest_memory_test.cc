#include "memory/guest_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <numeric>

#include "base/endian.h"

namespace crosvm::memory {
namespace {

constexpr uint64_t kPage = 4096;

GuestMemory Make(std::vector<RegionLayout> layout) {
  Result<GuestMemory> memory = GuestMemory::Create(layout);
  EXPECT_TRUE(memory.has_value()) << memory.error().ToString();
  return memory ? *std::move(memory) : GuestMemory();
}

sys::UniqueFd PlainMemfd(uint64_t size) {
  sys::UniqueFd fd(memfd_create("test", MFD_CLOEXEC));
  EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(size)), 0);
  return fd;
}

ErrorKind MapKind(uint64_t start, uint64_t size, sys::UniqueFd fd, uint64_t offset, bool seals) {
  std::vector<RegionFile> regions;
  regions.push_back({GuestAddr(start), size, std::move(fd), offset});
  const Result<GuestMemory> memory = GuestMemory::Map(std::move(regions), seals);
  EXPECT_FALSE(memory.has_value());
  return memory ? ErrorKind::kInternal : memory.error().kind();
}

TEST(GuestMemory, EmptyHandleFailsEveryAccess) {
  const GuestMemory memory;
  EXPECT_FALSE(memory.Slice(GuestAddr(0), 0));
  EXPECT_FALSE(memory.Read<uint8_t>(GuestAddr(0)));
  EXPECT_TRUE(memory.regions().empty());
  EXPECT_EQ(memory.total_size(), 0u);
}

TEST(GuestMemory, ReadsBackWhatWasWritten) {
  const GuestMemory memory = Make({{GuestAddr(0), 4 * kPage}});
  EXPECT_TRUE(memory.Write(GuestAddr(0x123), Le32(0x11223344)));
  EXPECT_EQ(memory.Read<Le32>(GuestAddr(0x123))->value(), 0x11223344u);
  EXPECT_EQ(*memory.Read<uint8_t>(GuestAddr(0x123)), 0x44);
}

TEST(GuestMemory, BoundsAreExact) {
  const GuestMemory memory = Make({{GuestAddr(kPage), kPage}});
  EXPECT_FALSE(memory.Read<uint8_t>(GuestAddr(kPage - 1)));
  EXPECT_TRUE(memory.Read<uint8_t>(GuestAddr(kPage)));
  EXPECT_TRUE(memory.Read<uint64_t>(GuestAddr(2 * kPage - 8)));
  EXPECT_FALSE(memory.Read<uint64_t>(GuestAddr(2 * kPage - 7)));
  EXPECT_FALSE(memory.Read<uint8_t>(GuestAddr(2 * kPage)));
  EXPECT_TRUE(memory.Slice(GuestAddr(kPage), kPage));
  EXPECT_FALSE(memory.Slice(GuestAddr(kPage), kPage + 1));
}

TEST(GuestMemory, EmptySliceNeedsAValidAddress) {
  const GuestMemory memory = Make({{GuestAddr(0), kPage}});
  EXPECT_TRUE(memory.Slice(GuestAddr(kPage - 1), 0)->empty());
  EXPECT_FALSE(memory.Slice(GuestAddr(kPage), 0));
}

TEST(GuestMemory, RangesDoNotWrap) {
  const GuestMemory memory = Make({{GuestAddr(0), kPage}});
  EXPECT_FALSE(memory.Slice(GuestAddr(UINT64_MAX), 2));
  EXPECT_FALSE(memory.Slice(GuestAddr(8), UINT64_MAX));
  EXPECT_FALSE(memory.Slice(GuestAddr(8), UINT64_MAX - 7));
}

TEST(GuestMemory, RangesDoNotCrossHolesOrRegions) {
  const GuestMemory memory =
      Make({{GuestAddr(0), kPage}, {GuestAddr(kPage), kPage}, {GuestAddr(4 * kPage), kPage}});
  EXPECT_TRUE(memory.Slice(GuestAddr(kPage - 4), 4));
  EXPECT_FALSE(memory.Slice(GuestAddr(kPage - 4), 8));
  EXPECT_FALSE(memory.Slice(GuestAddr(3 * kPage), 1));
  EXPECT_TRUE(memory.Slice(GuestAddr(4 * kPage), 1));
  EXPECT_EQ(memory.total_size(), 3 * kPage);
}

TEST(GuestMemory, RegionsAboveFourGibibytes) {
  constexpr uint64_t kFourGib = uint64_t{1} << 32;
  const GuestMemory memory = Make({{GuestAddr(0), kPage}, {GuestAddr(kFourGib), kFourGib + kPage}});
  const GuestAddr last(2 * kFourGib + kPage - 8);
  EXPECT_TRUE(memory.Write(last, Le64(42)));
  EXPECT_EQ(memory.Read<Le64>(last)->value(), 42u);
  EXPECT_EQ(memory.Slice(GuestAddr(kFourGib), kFourGib + kPage)->size(), kFourGib + kPage);
  EXPECT_FALSE(memory.Slice(GuestAddr(kFourGib), kFourGib + kPage + 1));
}

TEST(GuestMemory, CopiesShareTheTable) {
  const GuestMemory memory = Make({{GuestAddr(0), kPage}});
  const GuestMemory copy = memory;
  EXPECT_TRUE(copy.Write(GuestAddr(0), Le32(7)));
  EXPECT_EQ(memory.Read<Le32>(GuestAddr(0))->value(), 7u);
}

TEST(GuestMemory, CellsAreAlignedAndInBounds) {
  const GuestMemory memory = Make({{GuestAddr(0), kPage}});
  EXPECT_FALSE(memory.Cell<uint16_t>(GuestAddr(1)));
  EXPECT_FALSE(memory.Cell<uint64_t>(GuestAddr(4)));
  EXPECT_FALSE(memory.Cell<uint16_t>(GuestAddr(kPage)));
  const auto cell = memory.Cell<uint16_t>(GuestAddr(kPage - 2));
  ASSERT_TRUE(cell);
  cell->StoreRelease(0xabcd);
  EXPECT_EQ(cell->LoadAcquire(), 0xabcd);
  EXPECT_EQ(memory.Read<Le16>(GuestAddr(kPage - 2))->value(), 0xabcd);
}

TEST(GuestMemory, LayoutErrors) {
  const auto fails = [](std::vector<RegionLayout> layout) {
    return !GuestMemory::Create(layout).has_value();
  };
  EXPECT_TRUE(fails({{GuestAddr(0), 0}}));
  EXPECT_TRUE(fails({{GuestAddr(1), kPage}}));
  EXPECT_TRUE(fails({{GuestAddr(0), kPage + 1}}));
  EXPECT_TRUE(fails({{GuestAddr(0), 2 * kPage}, {GuestAddr(kPage), kPage}}));
  EXPECT_TRUE(fails({{GuestAddr(kPage), kPage}, {GuestAddr(0), kPage}}));
  EXPECT_TRUE(fails({{GuestAddr(UINT64_MAX - kPage + 1), kPage}}));
}

TEST(GuestMemory, DiscardFreesPages) {
  const GuestMemory memory = Make({{GuestAddr(kPage), 8 * kPage}});
  for (uint64_t i = 1; i <= 8; ++i) ASSERT_TRUE(memory.Write(GuestAddr(i * kPage), Le32(5)));
  struct stat before{};
  ASSERT_EQ(fstat(memory.regions()[0].fd.get(), &before), 0);
  EXPECT_TRUE(memory.Discard(GuestAddr(2 * kPage), 3 * kPage).has_value());
  struct stat after{};
  ASSERT_EQ(fstat(memory.regions()[0].fd.get(), &after), 0);
  EXPECT_EQ(before.st_blocks - after.st_blocks, static_cast<blkcnt_t>(3 * kPage / 512));
  EXPECT_EQ(memory.Read<Le32>(GuestAddr(kPage))->value(), 5u);
  EXPECT_EQ(memory.Read<Le32>(GuestAddr(2 * kPage))->value(), 0u);
  EXPECT_EQ(memory.Read<Le32>(GuestAddr(4 * kPage))->value(), 0u);
  EXPECT_EQ(memory.Read<Le32>(GuestAddr(5 * kPage))->value(), 5u);
}

TEST(GuestMemory, Hostile_Discard) {
  const GuestMemory memory = Make({{GuestAddr(0), 2 * kPage}});
  EXPECT_FALSE(memory.Discard(GuestAddr(1), kPage).has_value());
  EXPECT_FALSE(memory.Discard(GuestAddr(0), 3 * kPage).has_value());
  EXPECT_FALSE(memory.Discard(GuestAddr(kPage), ~uint64_t{0} & ~(kPage - 1)).has_value());
  EXPECT_FALSE(memory.Discard(GuestAddr(4 * kPage), kPage).has_value());
}

TEST(GuestMemory, MapSharesWithTheMaker) {
  const GuestMemory memory = Make({{GuestAddr(0), 4 * kPage}});
  std::vector<RegionFile> regions;
  // Out of order, and the second half of the file first.
  regions.push_back({GuestAddr(8 * kPage), 2 * kPage, *memory.regions()[0].fd.Dup(), 2 * kPage});
  regions.push_back({GuestAddr(0), 2 * kPage, *memory.regions()[0].fd.Dup(), 0});
  const Result<GuestMemory> peer = GuestMemory::Map(std::move(regions), /*require_seals=*/true);
  ASSERT_TRUE(peer.has_value()) << peer.error().ToString();
  ASSERT_TRUE(peer->Write(GuestAddr(8 * kPage + 4), Le32(99)));
  EXPECT_EQ(memory.Read<Le32>(GuestAddr(2 * kPage + 4))->value(), 99u);
  EXPECT_EQ(peer->regions()[1].fd_offset, 2 * kPage);
  ASSERT_TRUE(peer->Discard(GuestAddr(8 * kPage), kPage).has_value());
  EXPECT_EQ(memory.Read<Le32>(GuestAddr(2 * kPage + 4))->value(), 0u);
}

TEST(GuestMemory, Hostile_MapRefuses) {
  constexpr auto kBad = ErrorKind::kInvalidArgument;
  EXPECT_EQ(MapKind(0, kPage, PlainMemfd(kPage), 0, true), kBad);  // not sealed
  EXPECT_EQ(MapKind(0, 2 * kPage, PlainMemfd(kPage), 0, false), kBad);
  EXPECT_EQ(MapKind(0, kPage, PlainMemfd(kPage), kPage, false), kBad);
  EXPECT_EQ(MapKind(0, kPage, PlainMemfd(kPage), 12, false), kBad);
  EXPECT_EQ(MapKind(0, kPage, PlainMemfd(kPage), ~uint64_t{0} - kPage + 1, false), kBad);
  EXPECT_EQ(MapKind(0, uint64_t{1} << 63, PlainMemfd(kPage), 0, false), kBad);
  EXPECT_EQ(MapKind(0, 0, PlainMemfd(kPage), 0, false), kBad);
  EXPECT_EQ(MapKind(0, ~uint64_t{0}, PlainMemfd(kPage), 0, false), kBad);
  EXPECT_EQ(MapKind(~uint64_t{0} & ~(kPage - 1), kPage, PlainMemfd(kPage), 0, false), kBad);
  EXPECT_EQ(MapKind(0, kPage, sys::UniqueFd(), 0, false), kBad);
  EXPECT_EQ(MapKind(0, kPage, sys::UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC)), 0, false),
            kBad);
  int pipes[2];
  ASSERT_EQ(pipe2(pipes, O_CLOEXEC), 0);
  const sys::UniqueFd writer(pipes[1]);
  EXPECT_EQ(MapKind(0, kPage, sys::UniqueFd(pipes[0]), 0, false), kBad);
}

TEST(GuestMemory, Hostile_MapOfAReadOnlyFile) {
  const sys::UniqueFd plain = PlainMemfd(kPage);
  sys::UniqueFd read_only(
      open(("/proc/self/fd/" + std::to_string(plain.get())).c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(read_only.valid());
  EXPECT_EQ(MapKind(0, kPage, std::move(read_only), 0, false), ErrorKind::kPermissionDenied);
}

TEST(GuestMemory, Hostile_MapOverlapsAndManyRegions) {
  std::vector<RegionFile> overlap;
  overlap.push_back({GuestAddr(kPage), 2 * kPage, PlainMemfd(2 * kPage), 0});
  overlap.push_back({GuestAddr(0), 2 * kPage, PlainMemfd(2 * kPage), 0});
  EXPECT_FALSE(GuestMemory::Map(std::move(overlap), false).has_value());
  std::vector<RegionFile> many(100'000);
  EXPECT_FALSE(GuestMemory::Map(std::move(many), false).has_value());
}

TEST(GuestMemory, SliceUpToStopsAtTheRegionsEnd) {
  const GuestMemory memory = Make({{GuestAddr(0), kPage}, {GuestAddr(kPage), kPage}});
  EXPECT_EQ(memory.SliceUpTo(GuestAddr(kPage - 4), 10)->size(), 4u);
  EXPECT_EQ(memory.SliceUpTo(GuestAddr(kPage - 4), 3)->size(), 3u);
  EXPECT_FALSE(memory.SliceUpTo(GuestAddr(2 * kPage), 1));
}

TEST(GuestSlice, ReadAndCellCheckTheirPlace) {
  const GuestMemory memory = Make({{GuestAddr(0), kPage}});
  ASSERT_TRUE(memory.Write(GuestAddr(16 + 4), Le32(77)));
  const GuestSlice slice = *memory.Slice(GuestAddr(16), 8);
  EXPECT_EQ(slice.Read<Le32>(4)->value(), 77u);
  EXPECT_FALSE(slice.Read<Le32>(5));
  EXPECT_FALSE(slice.Read<Le32>(SIZE_MAX));
  EXPECT_EQ(slice.Cell<uint32_t>(4)->LoadRelaxed(), 77u);
  EXPECT_FALSE(slice.Cell<uint32_t>(2));
  EXPECT_FALSE(slice.Cell<uint32_t>(8));
  EXPECT_FALSE(slice.Cell<uint32_t>(SIZE_MAX));
}

TEST(GuestSlice, CopiesAndClamps) {
  const GuestMemory memory = Make({{GuestAddr(0), kPage}});
  const GuestSlice slice = *memory.Slice(GuestAddr(16), 8);
  std::vector<uint8_t> bytes(12);
  std::iota(bytes.begin(), bytes.end(), 1);
  EXPECT_EQ(slice.CopyFrom(bytes), 8u);
  EXPECT_EQ(*memory.Read<uint8_t>(GuestAddr(23)), 8);
  EXPECT_EQ(*memory.Read<uint8_t>(GuestAddr(24)), 0);
  std::vector<uint8_t> out(3);
  EXPECT_EQ(slice.Sub(2).CopyTo(out), 3u);
  EXPECT_EQ(out, (std::vector<uint8_t>{3, 4, 5}));
  EXPECT_EQ(slice.Sub(6, 100).size(), 2u);
  EXPECT_EQ(slice.Sub(8).size(), 0u);
  EXPECT_EQ(slice.Sub(SIZE_MAX, SIZE_MAX).size(), 0u);
  slice.Sub(0, 2).Zero();
  EXPECT_EQ(*memory.Read<uint8_t>(GuestAddr(17)), 0);
  EXPECT_EQ(*memory.Read<uint8_t>(GuestAddr(18)), 3);
  EXPECT_EQ(GuestSlice().CopyTo(out), 0u);
}

}  // namespace
}  // namespace crosvm::memory

#include "sys/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "sys/mapped_region.h"
#include "sys/memfd.h"

namespace crosvm::sys {
namespace {

UniqueFd PlainMemfd() {
  return UniqueFd(memfd_create("plain", MFD_CLOEXEC | MFD_ALLOW_SEALING));
}

TEST(FileTest, OpenNamesThePath) {
  const auto missing = Open("/nonexistent/root.img", O_RDONLY);
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().kind(), ErrorKind::kNotFound);
  EXPECT_EQ(missing.error().ToString(), "opening /nonexistent/root.img: no such file or directory");
  const UniqueFd null = Open("/dev/null", O_RDONLY).value();
  EXPECT_EQ(fcntl(null.get(), F_GETFD), FD_CLOEXEC);
}

TEST(FileTest, WritesAndReadsAtOffsets) {
  const UniqueFd file = PlainMemfd();
  ASSERT_TRUE(WriteAll(file, "hello, world").has_value());
  const uint8_t capital[] = {'W'};
  ASSERT_TRUE(PwriteAll(file, capital, 7).has_value());
  EXPECT_EQ(FileSize(file).value(), 12U);
  uint8_t buffer[8] = {};
  EXPECT_EQ(PreadAll(file, buffer, 7).value(), 5U);
  EXPECT_EQ(std::string(buffer, buffer + 5), "World");
  const Status exact = PreadExact(file, buffer, 7);
  ASSERT_FALSE(exact.has_value());
  EXPECT_EQ(exact.error().kind(), ErrorKind::kIo);
  EXPECT_TRUE(PreadExact(file, buffer, 4).has_value());
  EXPECT_EQ(lseek(file.get(), 6, SEEK_SET), 6);
  EXPECT_EQ(ReadAll(file, buffer).value(), 6U);
}

TEST(FileTest, Hostile_OffsetsOutOfRange) {
  const UniqueFd file = PlainMemfd();
  uint8_t buffer[8] = {};
  for (const uint64_t offset : {UINT64_MAX, uint64_t{INT64_MAX}, uint64_t{INT64_MAX} + 1}) {
    EXPECT_EQ(PreadAll(file, buffer, offset).error().kind(), ErrorKind::kInvalidArgument);
    EXPECT_EQ(PwriteAll(file, buffer, offset).error().kind(), ErrorKind::kInvalidArgument);
  }
}

TEST(FileTest, SizeOfOtherKindsIsAnError) {
  EXPECT_EQ(FileSize(Open("/dev/null", O_RDONLY).value()).error().kind(),
            ErrorKind::kInvalidArgument);
  EXPECT_FALSE(FileSize(BorrowedFd(-1)).has_value());
}

TEST(FileTest, ReadsWholeSmallFiles) {
  EXPECT_EQ(ReadFileToString("/proc/self/comm").value().back(), '\n');
  const UniqueFd file = PlainMemfd();
  const std::string text(100'000, 'x');
  ASSERT_TRUE(WriteAll(file, text).has_value());
  const std::string path = fmt::format("/proc/self/fd/{}", file.get());
  EXPECT_EQ(ReadFileToString(path).value(), text);
  EXPECT_EQ(ReadFileToString(path, text.size()).value(), text);
  const auto cut = ReadFileToString(path, text.size() - 1);
  ASSERT_FALSE(cut.has_value());
  EXPECT_EQ(cut.error().kind(), ErrorKind::kInvalidArgument);
  // Endless.
  EXPECT_FALSE(ReadFileToString("/dev/zero", 1000).has_value());
  EXPECT_FALSE(ReadFileToString("/").has_value());
}

TEST(FileTest, NonBlockingOnAndOff) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  const UniqueFd writer(ends[1]);
  ASSERT_TRUE(SetNonBlocking(reader, true).has_value());
  uint8_t buffer[1];
  EXPECT_EQ(ReadAll(reader, buffer).error().kind(), ErrorKind::kBusy);
  ASSERT_TRUE(SetNonBlocking(reader, false).has_value());
  EXPECT_EQ(fcntl(reader.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(MemfdTest, SizeAndSealsHold) {
  const UniqueFd memory = CreateSealedMemfd("guest", 3 * 4096).value();
  EXPECT_EQ(FileSize(memory).value(), 3 * 4096U);
  EXPECT_EQ(ftruncate(memory.get(), 4096), -1);
  EXPECT_EQ(ftruncate(memory.get(), 1 << 20), -1);
  EXPECT_EQ(fcntl(memory.get(), F_ADD_SEALS, F_SEAL_WRITE), -1);
  EXPECT_EQ(fcntl(memory.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_TRUE(IsShrinkSealed(memory, 3 * 4096));
  EXPECT_FALSE(IsShrinkSealed(memory, 3 * 4096 + 1));
}

TEST(MemfdTest, Hostile_IsNoProgram) {
  constexpr unsigned kNoExecSeal = 8;  // MFD_NOEXEC_SEAL, of kernel 6.3
  if (!UniqueFd(memfd_create("probe", MFD_CLOEXEC | kNoExecSeal)).valid()) {
    GTEST_SKIP() << "this kernel has no MFD_NOEXEC_SEAL";
  }
  const UniqueFd memory = CreateSealedMemfd("guest", 4096).value();
  EXPECT_EQ(Stat(memory).value().st_mode & 0111, 0U);
  EXPECT_EQ(fchmod(memory.get(), 0700), -1);
  EXPECT_TRUE(IsShrinkSealed(memory, 4096));
}

TEST(MemfdTest, TooLargeIsAnError) {
  EXPECT_EQ(CreateSealedMemfd("guest", UINT64_MAX).error().kind(), ErrorKind::kInvalidArgument);
}

// What a peer may send as shared memory.
TEST(MemfdTest, Hostile_UnsealedOrOtherFiles) {
  const UniqueFd plain = PlainMemfd();
  ASSERT_EQ(ftruncate(plain.get(), 8192), 0);
  EXPECT_FALSE(IsShrinkSealed(plain, 4096));
  ASSERT_EQ(fcntl(plain.get(), F_ADD_SEALS, F_SEAL_GROW), 0);
  EXPECT_FALSE(IsShrinkSealed(plain, 4096));
  ASSERT_EQ(fcntl(plain.get(), F_ADD_SEALS, F_SEAL_SHRINK), 0);
  EXPECT_TRUE(IsShrinkSealed(plain, 8192));
  EXPECT_FALSE(IsShrinkSealed(Open("/dev/zero", O_RDWR).value(), 1));
  EXPECT_FALSE(IsShrinkSealed(BorrowedFd(-1), 0));
}

TEST(MappedRegionTest, SharedMappingsSeeEachOther) {
  const UniqueFd memory = CreateSealedMemfd("guest", 2 * 4096).value();
  MappedRegion a = MappedRegion::Shared(memory, 4096, 4096, MapAccess::kReadWrite).value();
  const MappedRegion b = MappedRegion::Shared(memory, 0, 8192, MapAccess::kRead).value();
  a.data()[5] = 77;
  EXPECT_EQ(b.data()[4096 + 5], 77);
  EXPECT_TRUE(a.Advise(MADV_DONTDUMP).has_value());
  EXPECT_FALSE(a.Advise(-1).has_value());
}

TEST(MappedRegionTest, MovesAndUnmaps) {
  MappedRegion a = MappedRegion::Anonymous(8192).value();
  uint8_t* const data = a.data();
  EXPECT_EQ(data[8191], 0);
  MappedRegion b = std::move(a);
  EXPECT_FALSE(a.valid());  // NOLINT: moved from
  EXPECT_EQ(b.data(), data);
  b = MappedRegion::Anonymous(4096, MapAccess::kNone).value();
  EXPECT_EQ(b.size(), 4096U);
  MappedRegion& same = b;
  b = std::move(same);
  EXPECT_TRUE(b.valid());
}

TEST(MappedRegionTest, Overlays) {
  const UniqueFd memory = CreateSealedMemfd("file", 2 * 4096).value();
  MappedRegion file = MappedRegion::Shared(memory, 0, 8192, MapAccess::kReadWrite).value();
  file.data()[4096] = 7;
  const auto part = [&] { return MappedRegion::Shared(memory, 0, 8192, MapAccess::kRead).value(); };
  MappedRegion all = MappedRegion::Anonymous(4 * 4096, MapAccess::kRead).value();
  ASSERT_TRUE(all.Overlay(4096, part()).has_value());
  EXPECT_EQ(all.data()[0], 0);
  EXPECT_EQ(all.data()[2 * 4096], 7);
  ASSERT_TRUE(all.OverlayAnonymous(2 * 4096, 4096, MapAccess::kRead).has_value());
  EXPECT_EQ(all.data()[2 * 4096], 0);

  EXPECT_FALSE(all.Overlay(3 * 4096, part()).has_value());
  EXPECT_FALSE(all.Overlay(5 * 4096, part()).has_value());
  EXPECT_FALSE(all.Overlay(100, part()).has_value());
  EXPECT_FALSE(all.Overlay(0, MappedRegion()).has_value());
  EXPECT_FALSE(all.OverlayAnonymous(0, 5 * 4096, MapAccess::kRead).has_value());
  EXPECT_FALSE(all.OverlayAnonymous(0, 0, MapAccess::kRead).has_value());
  EXPECT_FALSE(all.OverlayAnonymous(SIZE_MAX, 4096, MapAccess::kRead).has_value());
}

TEST(MappedRegionTest, BadArguments) {
  const UniqueFd memory = CreateSealedMemfd("guest", 4096).value();
  EXPECT_FALSE(MappedRegion::Shared(memory, 0, 0, MapAccess::kRead).has_value());
  EXPECT_FALSE(MappedRegion::Shared(memory, 1, 4096, MapAccess::kRead).has_value());
  EXPECT_FALSE(MappedRegion::Shared(memory, UINT64_MAX, 4096, MapAccess::kRead).has_value());
  EXPECT_FALSE(MappedRegion::Shared(BorrowedFd(-1), 0, 4096, MapAccess::kRead).has_value());
  EXPECT_FALSE(MappedRegion::Anonymous(0).has_value());
}

}  // namespace
}  // namespace crosvm::sys

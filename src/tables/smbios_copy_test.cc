#include <gtest/gtest.h>

#include "tables/smbios.h"

namespace crosvm::tables {
namespace {

constexpr uint64_t kBase = 0xf0000;
constexpr uint64_t kLimit = 0x8000;

Bytes Structures() {
  return {1, 5, 0, 1, 1, 'x', 0, 0, 127, 4, 0, 2, 0, 0};
}

Bytes Entry64() {
  ByteWriter out;
  out.Text("_SM3_").U8(0x55).U8(24).U8(3).U8(3).U8(0).U8(1).U8(0).U32(0x1234).U64(0xdead'0000);
  return std::move(out).Take();
}

Bytes Entry32() {
  ByteWriter out;
  out.Text("_SM_").U8(0).U8(31).U8(2).U8(8).U16(99).U8(0).Zero(5);
  out.Text("_DMI_").U8(0).U16(0x7777).U32(0xdead).U16(2).U8(0x28);
  return std::move(out).Take();
}

TEST(SmbiosCopy, MovesThe64BitEntryPoint) {
  const Result<Bytes> image = RelocateSmbios(Entry64(), Structures(), kBase, kLimit);
  ASSERT_TRUE(image.has_value());
  EXPECT_EQ(ByteSum(std::span(*image).first(24)), 0);
  EXPECT_EQ(LoadU32(*image, 12), Structures().size());
  EXPECT_EQ(LoadU64(*image, 16), kBase + 32);
  EXPECT_EQ(Bytes(image->begin() + 32, image->end()), Structures());
}

TEST(SmbiosCopy, MovesThe32BitEntryPoint) {
  const Result<Bytes> image = RelocateSmbios(Entry32(), Structures(), kBase, kLimit);
  ASSERT_TRUE(image.has_value());
  EXPECT_EQ(ByteSum(std::span(*image).first(31)), 0);
  EXPECT_EQ(ByteSum(std::span(*image).subspan(16, 15)), 0);
  EXPECT_EQ(LoadU16(*image, 22), Structures().size());
  EXPECT_EQ(LoadU32(*image, 24), kBase + 32);
}

TEST(SmbiosCopy, DropsWhatFollowsTheEnd) {
  Bytes padded = Structures();
  padded.insert(padded.end(), 100, 0xee);
  EXPECT_EQ(RelocateSmbios(Entry64(), padded, kBase, kLimit)->size(), 32 + Structures().size());
}

TEST(SmbiosCopy, Hostile_BrokenFilesAreRefused) {
  const auto refused = [](const Bytes& entry, const Bytes& structures, std::string_view why) {
    const Result<Bytes> image = RelocateSmbios(entry, structures, kBase, kLimit);
    ASSERT_FALSE(image.has_value()) << why;
    EXPECT_NE(image.error().ToString().find(why), std::string::npos) << image.error().ToString();
  };
  refused({}, Structures(), "neither");
  refused({'_', 'S', 'M', '3', '_'}, Structures(), "24 bytes");
  refused({'_', 'S', 'M', '_'}, Structures(), "31 bytes");
  refused(Entry64(), {}, "no structure");
  refused(Entry64(), {1, 3, 0, 0}, "length 3");
  refused(Entry64(), {1, 200, 0, 0}, "length 200");
  refused(Entry64(), {1, 4, 0, 0}, "no end");
  refused(Entry64(), {1, 4, 0, 0, 'x', 0}, "no end");
  Bytes large;
  for (int i = 0; i < 0x2000; ++i) large.insert(large.end(), {1, 4, 0, 0, 0, 0});
  refused(Entry64(), large, "room");
}

}  // namespace
}  // namespace crosvm::tables

// The small value types: checked arithmetic, byte order, strong integers, field lists.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <unordered_set>

#include "base/checked_math.h"
#include "base/describe.h"
#include "base/endian.h"
#include "base/strong_int.h"

namespace crosvm {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

TEST(CheckedMathTest, OverflowIsAValue) {
  EXPECT_EQ(CheckedAdd<uint64_t>(kMax - 1, 1), kMax);
  EXPECT_EQ(CheckedAdd<uint64_t>(kMax, 1), std::nullopt);
  EXPECT_EQ(CheckedAdd<uint8_t>(200, 56), std::nullopt);
  EXPECT_EQ(CheckedSub<uint32_t>(1, 2), std::nullopt);
  EXPECT_EQ(CheckedSub<int32_t>(1, 2), -1);
  EXPECT_EQ(CheckedMul<uint64_t>(kMax / 2, 2), kMax - 1);
  EXPECT_EQ(CheckedMul<uint64_t>(kMax / 2, 3), std::nullopt);
}

TEST(CheckedMathTest, RangeFitsAtTheEdges) {
  EXPECT_TRUE(RangeFits<uint64_t>(0, 0, 0));
  EXPECT_TRUE(RangeFits<uint64_t>(10, 0, 10));
  EXPECT_TRUE(RangeFits<uint64_t>(0, 10, 10));
  EXPECT_FALSE(RangeFits<uint64_t>(1, 10, 10));
  EXPECT_FALSE(RangeFits<uint64_t>(11, 0, 10));
  EXPECT_FALSE(RangeFits<uint64_t>(kMax, kMax, 10));
  EXPECT_FALSE(RangeFits<uint64_t>(5, kMax, kMax));
}

TEST(CheckedMathTest, Alignment) {
  EXPECT_EQ(AlignDown<uint64_t>(4097, 4096), 4096U);
  EXPECT_EQ(AlignUp<uint64_t>(4097, 4096), 8192U);
  EXPECT_EQ(AlignUp<uint64_t>(4096, 4096), 4096U);
  EXPECT_EQ(AlignUp<uint64_t>(kMax, 4096), std::nullopt);
  EXPECT_EQ(AlignUp<uint16_t>(65535, 2), std::nullopt);
  EXPECT_EQ(AlignUp<uint8_t>(129, 128), std::nullopt);
  EXPECT_TRUE(IsAligned<uint64_t>(8192, 4096));
  EXPECT_FALSE(IsAligned<uint64_t>(8191, 4096));
}

TEST(EndianTest, BytesLieInTheNamedOrder) {
  const Le32 little = 0x11223344;
  const Be32 big = 0x11223344;
  const uint8_t little_bytes[] = {0x44, 0x33, 0x22, 0x11};
  const uint8_t big_bytes[] = {0x11, 0x22, 0x33, 0x44};
  EXPECT_EQ(memcmp(&little, little_bytes, 4), 0);
  EXPECT_EQ(memcmp(&big, big_bytes, 4), 0);
  EXPECT_EQ(little.value(), 0x11223344U);
  EXPECT_EQ(big.value(), 0x11223344U);
  struct Wire {
    uint8_t a;
    Le64 b;
    Be16 c;
  };
  static_assert(sizeof(Wire) == 11 && alignof(Wire) == 1);
}

TEST(StrongIntTest, ComparesAndHashes) {
  using Gsi = StrongInt<struct GsiTag, uint32_t>;
  static_assert(!std::is_convertible_v<uint32_t, Gsi>);
  EXPECT_LT(Gsi(1), Gsi(2));
  EXPECT_EQ(Gsi(), Gsi(0));
  const std::unordered_set<Gsi> set = {Gsi(1), Gsi(2), Gsi(1)};
  EXPECT_EQ(set.size(), 2U);
}

enum class Cache : uint8_t { kNever, kAuto };
constexpr auto DescribeEnum(Cache) {
  return EnumNames<Cache>({{Cache::kNever, "never"}, {Cache::kAuto, "auto"}});
}

struct Options {
  std::string path;
  bool ro = false;
  static constexpr auto Describe() {
    return Fields(Field("path", &Options::path, "the image file").Positional(),
                  Field("ro", &Options::ro, "refuse writes"));
  }
};

TEST(DescribeTest, VisitsFieldsInOrder) {
  std::string names;
  ForEachField<Options>([&](const auto& info) {
    names +=
        fmt::format("{}{}{} ", info.name, info.positional ? "+" : "", info.required ? "!" : "");
  });
  EXPECT_EQ(names, "path+! ro ");
  EXPECT_EQ(NameOf(Cache::kAuto), "auto");
  EXPECT_EQ(NameOf(static_cast<Cache>(9)), "?");
}

}  // namespace
}  // namespace crosvm

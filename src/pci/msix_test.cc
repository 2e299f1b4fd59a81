#include "pci/msix.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace crosvm::pci {
namespace {

std::optional<uint16_t> Write32(Msix& msix, uint64_t offset, uint32_t value) {
  std::array<uint8_t, 4> data;
  std::memcpy(data.data(), &value, 4);
  return msix.WriteTable(offset, data);
}

uint32_t Read32(const Msix& msix, uint64_t offset) {
  std::array<uint8_t, 4> data{};
  msix.ReadTable(offset, data);
  uint32_t value = 0;
  std::memcpy(&value, data.data(), 4);
  return value;
}

TEST(MsixTest, EntriesStartMasked) {
  const Msix msix(3);
  for (uint16_t vector = 0; vector < 3; ++vector) {
    EXPECT_TRUE(msix.masked(vector));
    EXPECT_EQ(Read32(msix, vector * 16U + 12), 1U);
  }
}

TEST(MsixTest, TableKeepsWhatIsWritten) {
  Msix msix(2);
  EXPECT_EQ(Write32(msix, 16, 0xfee0'1003), 1);
  EXPECT_EQ(Write32(msix, 20, 0x12), 1);
  EXPECT_EQ(Write32(msix, 24, 0x4021), 1);
  EXPECT_EQ(Write32(msix, 28, 0xffff'fffe), 1);
  EXPECT_EQ(msix.message(1).address, 0x12'fee0'1000U);
  EXPECT_EQ(msix.message(1).data, 0x4021U);
  EXPECT_FALSE(msix.masked(1));
  EXPECT_EQ(Read32(msix, 28), 0U);
  EXPECT_TRUE(msix.masked(0));
}

TEST(MsixTest, EightByteWritesAreTwoWords) {
  Msix msix(1);
  const uint8_t data[] = {0, 0, 0xe0, 0xfe, 1, 0, 0, 0};
  EXPECT_EQ(msix.WriteTable(0, data), 0);
  EXPECT_EQ(msix.message(0).address, 0x1'fee0'0000U);
}

TEST(MsixTest, FunctionMaskCoversEveryVector) {
  Msix msix(1);
  Write32(msix, 12, 0);
  EXPECT_FALSE(msix.masked(0));
  msix.SetControl(true, true);
  EXPECT_TRUE(msix.masked(0));
}

TEST(MsixTest, PendingBitsAreOneABitInOrder) {
  Msix msix(70);
  msix.SetPending(0, true);
  msix.SetPending(9, true);
  msix.SetPending(69, true);
  std::array<uint8_t, 16> data{};
  msix.ReadPending(0, data);
  EXPECT_EQ(data[0], 0x01);
  EXPECT_EQ(data[1], 0x02);
  EXPECT_EQ(data[8], 0x20);
  EXPECT_EQ(data[9], 0x00);
}

TEST(MsixTest, Hostile_OddWritesTouchNothing) {
  Msix msix(2);
  for (uint64_t offset = 0; offset < 80; ++offset) {
    for (size_t length = 1; length <= 8; ++length) {
      const bool defined = (length == 4 || length == 8) && offset % length == 0 && offset < 32;
      const std::vector<uint8_t> data(length, 0xff);
      EXPECT_EQ(msix.WriteTable(offset, data).has_value(), defined) << offset << " " << length;
      std::vector<uint8_t> out(length);
      msix.ReadTable(offset, out);
      msix.ReadPending(offset, out);
    }
  }
  const uint8_t word[4] = {};
  EXPECT_FALSE(msix.WriteTable(0xffff'ffff'ffff'fffcULL, word).has_value());
}

}  // namespace
}  // namespace crosvm::pci

#include "virtio/chain.h"

#include <gtest/gtest.h>

#include "virtio/testing/driver.h"

namespace crosvm::virtio {
namespace {

class SliceCursorTest : public ::testing::Test {
 protected:
  SliceCursorTest() {
    for (uint64_t i = 0; i < 32; ++i) {
      EXPECT_TRUE(memory_.Write(memory::GuestAddr(i), static_cast<uint8_t>(i)));
    }
    // Bytes 0 to 2, nothing, 10 to 14.
    slices_ = {*memory_.Slice(memory::GuestAddr(0), 3), *memory_.Slice(memory::GuestAddr(5), 0),
               *memory_.Slice(memory::GuestAddr(10), 5)};
  }
  memory::GuestMemory memory_ = testing::Driver::MakeMemory();
  std::vector<memory::GuestSlice> slices_;
};

TEST_F(SliceCursorTest, ReadsAcrossSlices) {
  SliceReader reader(slices_);
  EXPECT_EQ(reader.remaining(), 8u);
  std::vector<uint8_t> bytes(4);
  EXPECT_TRUE(reader.Read(bytes));
  EXPECT_EQ(bytes, (std::vector<uint8_t>{0, 1, 2, 10}));
  EXPECT_EQ(*reader.Read<uint8_t>(), 11);
  EXPECT_FALSE(reader.Read(bytes)) << "3 left";
  EXPECT_EQ(reader.remaining(), 3u);
  EXPECT_TRUE(reader.Skip(2));
  EXPECT_EQ(*reader.Read<uint8_t>(), 14);
  EXPECT_FALSE(reader.Skip(1));
  EXPECT_TRUE(reader.Skip(0));
}

TEST_F(SliceCursorTest, TakesSlices) {
  SliceReader reader(slices_);
  std::vector<memory::GuestSlice> taken;
  EXPECT_TRUE(reader.Skip(1));
  EXPECT_TRUE(reader.Take(4, taken));
  ASSERT_GE(taken.size(), 2u);
  EXPECT_EQ(taken.front().size(), 2u);
  EXPECT_EQ(taken.back().size(), 2u);
  EXPECT_FALSE(reader.Take(4, taken));
  EXPECT_TRUE(reader.Take(3, taken));
}

TEST_F(SliceCursorTest, WritesAcrossSlices) {
  SliceWriter writer(slices_);
  const std::vector<uint8_t> bytes = {100, 101, 102, 103};
  EXPECT_TRUE(writer.Write(bytes));
  EXPECT_EQ(writer.written(), 4u);
  EXPECT_EQ(*memory_.Read<uint8_t>(memory::GuestAddr(2)), 102);
  EXPECT_EQ(*memory_.Read<uint8_t>(memory::GuestAddr(3)), 3);
  EXPECT_EQ(*memory_.Read<uint8_t>(memory::GuestAddr(10)), 103);
  EXPECT_TRUE(writer.Skip(1));
  EXPECT_FALSE(writer.Write(bytes));
  EXPECT_EQ(writer.remaining(), 3u);
  EXPECT_TRUE(writer.Write<uint8_t>(9));
  EXPECT_EQ(*memory_.Read<uint8_t>(memory::GuestAddr(12)), 9);
}

TEST_F(SliceCursorTest, EmptyListsAreFine) {
  SliceReader reader({});
  EXPECT_EQ(reader.remaining(), 0u);
  EXPECT_FALSE(reader.Read<uint8_t>());
  EXPECT_TRUE(reader.Skip(0));
}

}  // namespace
}  // namespace crosvm::virtio

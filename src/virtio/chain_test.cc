#include "virtio/chain.h"

#include <gtest/gtest.h>

#include "virtio/queue.h"
#include "virtio/testing/driver.h"
#include "virtio/types.h"

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

// What Queue::AcceptUnreachable() makes of a buffer outside memory.
class UnreachableTest : public ::testing::TestWithParam<bool> {
 protected:
  memory::GuestMemory memory_ = testing::Driver::MakeMemory();
  testing::Driver driver_{memory_, {.size = 16, .packed = GetParam()}};
};

INSTANTIATE_TEST_SUITE_P(Formats, UnreachableTest, ::testing::Bool());

TEST_P(UnreachableTest, BuffersOutsideMemoryAreToldToTheDevice) {
  Queue queue = driver_.MakeQueue();
  queue.AcceptUnreachable();
  driver_.Chain().Readable("good").Raw(0x400000, 4096, 0).Readable("more").Writable(8).Submit();
  driver_.Chain().Readable("good").Submit();
  std::optional<Chain> first = queue.Pop();
  std::optional<Chain> second = queue.Pop();
  ASSERT_TRUE(first && second);
  EXPECT_TRUE(first->unreachable());
  EXPECT_EQ(first->readable().size(), 2u);
  EXPECT_EQ(first->writable().size(), 1u);
  Chain moved = *std::move(first);
  EXPECT_TRUE(moved.unreachable());
  EXPECT_FALSE(second->unreachable());
  queue.Complete(*std::move(second), 0);
  queue.Complete(std::move(moved), 8);
  queue.Flush();
  EXPECT_FALSE(queue.broken());
  // Rings and tables have to be where they are said to be.
  driver_.Chain().Raw(0x400000, 16, VRING_DESC_F_INDIRECT).Submit();
  EXPECT_FALSE(queue.Pop());
  EXPECT_TRUE(queue.broken());
}

}  // namespace
}  // namespace crosvm::virtio

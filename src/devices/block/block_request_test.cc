// Chains to requests, without a device: what ends up in the parsed request.
#include "devices/block/block_request.h"

#include <gtest/gtest.h>

#include "virtio/testing/driver.h"

namespace crosvm::devices::block {
namespace {

using virtio::testing::ChainSpec;
using virtio::testing::Driver;

class BlockRequestTest : public ::testing::Test {
 protected:
  // False when the chain has no status byte.
  bool Parse(ChainSpec& spec) {
    spec.Submit();
    std::optional<virtio::Chain> chain = queue_.Pop();
    EXPECT_TRUE(chain.has_value());
    const bool parsed = ParseRequest(*chain, limits_, request_);
    queue_.Complete(*std::move(chain), 0);
    return parsed;
  }
  static RequestHeader Header(uint32_t type, uint64_t sector) {
    return {.type = Le32(type), .reserved = Le32(0), .sector = Le64(sector)};
  }

  Driver driver_{Driver::MakeMemory()};
  virtio::Queue queue_ = driver_.MakeQueue();
  DiskLimits limits_{.capacity_bytes = 1 << 20, .discard = true};
  Request request_;
};

TEST_F(BlockRequestTest, ReadLeavesTheStatusByteOut) {
  auto chain = driver_.Chain();
  ASSERT_TRUE(Parse(chain.ReadableStruct(Header(VIRTIO_BLK_T_IN, 3)).Writable(1024).Writable(1)));
  EXPECT_EQ(request_.error, RequestStatus::kOk);
  EXPECT_EQ(request_.operation, Operation::kRead);
  EXPECT_EQ(request_.offset, 1536u);
  EXPECT_EQ(request_.length, 1024u);
  ASSERT_EQ(request_.data.size(), 1u);
  EXPECT_EQ(request_.data[0].size(), 1024u);
  EXPECT_EQ(request_.status.size(), 1u);
  EXPECT_EQ(request_.writable_bytes, 1025u);
}

TEST_F(BlockRequestTest, TheHeaderMayBeCutAnywhere) {
  const RequestHeader header = Header(VIRTIO_BLK_T_OUT, 1);
  // SAFETY: a wire struct's bytes.
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(&header), sizeof(header));
  const std::vector<uint8_t> data(512, 7);
  std::vector<uint8_t> tail(bytes.begin() + 5, bytes.end());
  tail.insert(tail.end(), data.begin(), data.end());
  auto chain = driver_.Chain();
  ASSERT_TRUE(Parse(chain.Readable(bytes.first(5)).Readable(tail).Writable(1)));
  EXPECT_EQ(request_.error, RequestStatus::kOk);
  EXPECT_EQ(request_.offset, 512u);
  EXPECT_EQ(request_.length, 512u);
  ASSERT_EQ(request_.data.size(), 1u);
  EXPECT_EQ(request_.data[0].Read<uint8_t>(0), 7);
}

TEST_F(BlockRequestTest, TheLastSectorAndNoMore) {
  auto last = driver_.Chain();
  ASSERT_TRUE(Parse(last.ReadableStruct(Header(VIRTIO_BLK_T_IN, 2047)).Writable(513)));
  EXPECT_EQ(request_.error, RequestStatus::kOk);
  auto beyond = driver_.Chain();
  ASSERT_TRUE(Parse(beyond.ReadableStruct(Header(VIRTIO_BLK_T_IN, 2047)).Writable(1025)));
  EXPECT_EQ(request_.error, RequestStatus::kIoError);
  EXPECT_TRUE(request_.data.empty());
}

TEST_F(BlockRequestTest, NothingOfAnEarlierRequestStays) {
  auto first = driver_.Chain();
  ASSERT_TRUE(Parse(first.ReadableStruct(Header(VIRTIO_BLK_T_IN, 0)).Writable(513)));
  EXPECT_EQ(request_.data.size(), 1u);
  auto second = driver_.Chain();
  ASSERT_TRUE(Parse(second.ReadableStruct(Header(77, 0)).Writable(1)));
  EXPECT_EQ(request_.error, RequestStatus::kUnsupported);
  EXPECT_TRUE(request_.data.empty());
  EXPECT_EQ(request_.length, 0u);
}

TEST_F(BlockRequestTest, Hostile_NoStatusByte) {
  auto chain = driver_.Chain();
  EXPECT_FALSE(Parse(chain.ReadableStruct(Header(VIRTIO_BLK_T_OUT, 0))));
}

}  // namespace
}  // namespace crosvm::devices::block

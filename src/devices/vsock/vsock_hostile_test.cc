// Packets and buffers that make no sense.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "devices/vsock/testing/vsock_device_fixture.h"

namespace crosvm::devices::vsock {
namespace {

using namespace testing;  // NOLINT: the fixture and its constants

class VsockHostileTest : public VsockDeviceTest {};

INSTANTIATE_TEST_SUITE_P(Formats, VsockHostileTest, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "Packed" : "Split"; });

TEST_P(VsockHostileTest, Hostile_MoreThanTheWindowIsAReset) {
  Start();
  GiveBuffers(64);
  Open();
  const std::string block(64 << 10, 'z');
  for (int i = 0; i < 100 && device_->streams().size() != 0; ++i) SendData(block);
  const std::vector<int> ops = Ops();
  ASSERT_FALSE(ops.empty());
  EXPECT_EQ(ops.back(), VIRTIO_VSOCK_OP_RST);
}

TEST_P(VsockHostileTest, Hostile_UnknownStreamsAreReset) {
  Start();
  GiveBuffers(8);
  for (const uint16_t op : {VIRTIO_VSOCK_OP_RW, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_OP_RESPONSE,
                            VIRTIO_VSOCK_OP_CREDIT_REQUEST}) {
    Send(Header(op));
    EXPECT_EQ(Ops(), std::vector<int>{VIRTIO_VSOCK_OP_RST}) << op;
  }
  Send(Header(VIRTIO_VSOCK_OP_RST));
  EXPECT_EQ(Ops(), std::vector<int>{});
}

TEST_P(VsockHostileTest, Hostile_OperationsThatEndAStream) {
  Start();
  GiveBuffers(64);
  for (const uint16_t op : {uint16_t{0}, uint16_t{VIRTIO_VSOCK_OP_RESPONSE},
                            uint16_t{VIRTIO_VSOCK_OP_REQUEST}, uint16_t{77}, uint16_t{0xffff}}) {
    Open();
    Send(Header(op));
    EXPECT_EQ(Ops(), std::vector<int>{VIRTIO_VSOCK_OP_RST}) << op;
    EXPECT_EQ(device_->streams().size(), 0u);
  }
}

TEST_P(VsockHostileTest, Hostile_OtherAddressesAndTypes) {
  Start();
  GiveBuffers(8);
  PacketHeader header = Header(VIRTIO_VSOCK_OP_REQUEST);
  header.dst_cid = 77;
  Send(header);
  std::vector<Packet> packets = Packets();
  ASSERT_EQ(packets.size(), 1u);
  EXPECT_EQ(packets[0].header.op.value(), VIRTIO_VSOCK_OP_RST);
  EXPECT_EQ(packets[0].header.src_cid.value(), 77u);
  header = Header(VIRTIO_VSOCK_OP_REQUEST);
  header.type = 2;
  Send(header);
  packets = Packets();
  ASSERT_EQ(packets.size(), 1u);
  EXPECT_EQ(packets[0].header.type.value(), 2u);
  header = Header(VIRTIO_VSOCK_OP_REQUEST);
  header.src_cid = kCid + 1;
  Send(header);
  EXPECT_EQ(Ops(), std::vector<int>{});
  EXPECT_EQ(host_.asked, 0u);
}

TEST_P(VsockHostileTest, Hostile_LengthsThatLie) {
  Start();
  GiveBuffers(64);
  Open();
  PacketHeader header = Header(VIRTIO_VSOCK_OP_RW);
  header.len = 100;
  Send(header, "short");
  EXPECT_EQ(Ops(), std::vector<int>{VIRTIO_VSOCK_OP_RST});
  EXPECT_EQ(device_->streams().size(), 0u);
  Open();
  header.len = UINT32_MAX;
  Send(header, "short");
  EXPECT_EQ(Ops(), std::vector<int>{VIRTIO_VSOCK_OP_RST});
  // More than promised is ignored.
  Open();
  header.len = 5;
  Send(header, "short and more");
  EXPECT_EQ(ReadHost(), "short");
  // Not even a header.
  drivers_[kTx].Chain().Readable("tiny").Submit();
  drivers_[kTx].Chain().Writable(100).Submit();
  Kick(kTx);
  EXPECT_EQ(drivers_[kTx].AllUsed().size(), 2u);
}

TEST_P(VsockHostileTest, Hostile_DataAfterShutdown) {
  Start();
  GiveBuffers(8);
  Open();
  SendShutdown(VIRTIO_VSOCK_SHUTDOWN_SEND);
  SendData("more");
  EXPECT_EQ(Ops(), std::vector<int>{VIRTIO_VSOCK_OP_RST});
}

TEST_P(VsockHostileTest, Hostile_BuffersTooSmallForAPacket) {
  Start();
  for (const uint32_t size : {1u, 43u, 44u}) drivers_[kRx].Chain().Writable(size).Submit();
  drivers_[kRx].Chain().Writable(45).Submit();
  Send(Header(VIRTIO_VSOCK_OP_RW));
  const std::vector<Used> used = drivers_[kRx].AllUsed();
  ASSERT_EQ(used.size(), 4u);
  EXPECT_EQ(used[0].written + used[1].written + used[2].written, 0u);
  EXPECT_EQ(used[3].written, sizeof(PacketHeader));
}

TEST_P(VsockHostileTest, Hostile_ATinyBufferAmongOthers) {
  Start();
  GiveBuffers(1);
  Open();
  for (const uint32_t size : {100u, 10u, 100u}) drivers_[kRx].Chain().Writable(size).Submit();
  Kick(kRx);
  // Nothing to read but the end: the buffers that were taken for data are given back.
  shutdown(HostEnd().fd().get(), SHUT_WR);
  loop_.RunUntilIdle();
  EXPECT_EQ(Ops(), std::vector<int>{VIRTIO_VSOCK_OP_SHUTDOWN});
  Send(Header(VIRTIO_VSOCK_OP_CREDIT_REQUEST));
  const std::vector<Used> used = drivers_[kRx].AllUsed();
  ASSERT_EQ(used.size(), 2u);
  EXPECT_EQ(used[0].written, 0u);
  EXPECT_EQ(used[1].written, sizeof(PacketHeader));
}

TEST_P(VsockHostileTest, Hostile_AFloodOfRequestsIsBounded) {
  Start();
  for (uint32_t i = 0; i < 2000; ++i) {
    PacketHeader header = Header(VIRTIO_VSOCK_OP_REQUEST);
    header.src_port = i;
    drivers_[kTx].Chain().ReadableStruct(header).Submit();
    Kick(kTx);
    (void)drivers_[kTx].AllUsed();
    if (drivers_[kTx].outstanding() > 200) break;  // the device takes no more: back-pressure
  }
  EXPECT_LE(device_->streams().size(), kMaxStreams);
  EXPECT_GT(drivers_[kTx].outstanding(), 200u);
  EXPECT_EQ(device_->streams().counters().refused, kMaxResets);
  // Once the guest takes its answers, the rest is worked on.
  for (int i = 0; i < 20; ++i) {
    GiveBuffers(100 - static_cast<int>(drivers_[kRx].outstanding()));
    (void)Packets();
    (void)drivers_[kTx].AllUsed();
  }
  EXPECT_EQ(drivers_[kTx].outstanding(), 0u);
}

TEST_P(VsockHostileTest, Hostile_OpeningAndResettingWithoutTakingAnswers) {
  Start();
  for (uint32_t i = 0; i < 5000; ++i) {
    PacketHeader header = Header(VIRTIO_VSOCK_OP_REQUEST);
    header.src_port = i;
    Send(header);
    header.op = VIRTIO_VSOCK_OP_RST;
    Send(header);
    host_.accepted.clear();
  }
  EXPECT_EQ(device_->streams().size(), 0u);
  EXPECT_FALSE(device_->streams().HasOutput());
}

}  // namespace
}  // namespace crosvm::devices::vsock

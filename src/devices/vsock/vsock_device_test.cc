// The virtual socket device against a driver of ours and sockets of the host.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "devices/vsock/testing/vsock_device_fixture.h"

namespace crosvm::devices::vsock {
namespace {

using namespace testing;  // NOLINT: the fixture and its constants

INSTANTIATE_TEST_SUITE_P(Formats, VsockDeviceTest, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "Packed" : "Split"; });

TEST_P(VsockDeviceTest, TellsTheCid) {
  Le64 cid;
  // SAFETY: eight bytes.
  device_->ReadConfig(0, {reinterpret_cast<uint8_t*>(&cid), sizeof(cid)});
  EXPECT_EQ(cid.value(), kCid);
  EXPECT_EQ(device_->info().device_id, VIRTIO_ID_VSOCK);
  EXPECT_EQ(device_->info().queue_sizes.size(), 3u);
}

TEST_P(VsockDeviceTest, DataBothWays) {
  Start();
  GiveBuffers(16);
  Open();
  SendData("hello");
  SendData(" world");
  EXPECT_EQ(ReadHost(), "hello world");
  WriteHost("greetings");
  const std::vector<Packet> packets = Packets();
  ASSERT_EQ(packets.size(), 1u);
  EXPECT_EQ(packets[0].header.op.value(), VIRTIO_VSOCK_OP_RW);
  EXPECT_EQ(packets[0].header.fwd_cnt.value(), 11u);
  EXPECT_EQ(packets[0].payload, "greetings");
}

TEST_P(VsockDeviceTest, NobodyListens) {
  Start();
  GiveBuffers(2);
  PacketHeader header = Header(VIRTIO_VSOCK_OP_REQUEST);
  header.dst_port = 99;
  Send(header);
  const std::vector<Packet> packets = Packets();
  ASSERT_EQ(packets.size(), 1u);
  EXPECT_EQ(packets[0].header.op.value(), VIRTIO_VSOCK_OP_RST);
  EXPECT_EQ(packets[0].header.src_port.value(), 99u);
  EXPECT_EQ(packets[0].header.dst_port.value(), kGuestPort);
  EXPECT_EQ(device_->streams().size(), 0u);
}

TEST_P(VsockDeviceTest, AFullListenerIsAskedAgain) {
  Start();
  GiveBuffers(4);
  host_.busy = 3;
  Send(Header(VIRTIO_VSOCK_OP_REQUEST));
  EXPECT_EQ(Ops(), std::vector<int>{});
  loop_.AdvanceTime(std::chrono::milliseconds(100));
  EXPECT_EQ(Ops(), std::vector<int>{VIRTIO_VSOCK_OP_RESPONSE});
  EXPECT_EQ(host_.asked, 4u);
}

TEST_P(VsockDeviceTest, AListenerThatStaysFullIsAReset) {
  Start();
  GiveBuffers(4);
  host_.busy = 1 << 20;
  Send(Header(VIRTIO_VSOCK_OP_REQUEST));
  loop_.AdvanceTime(std::chrono::seconds(4));
  EXPECT_EQ(Ops(), std::vector<int>{VIRTIO_VSOCK_OP_RST});
  EXPECT_EQ(device_->streams().size(), 0u);
}

TEST_P(VsockDeviceTest, ALongReadFillsManyBuffers) {
  Start();
  GiveBuffers(32);
  Open();
  std::string text;
  for (int i = 0; i < 30000; ++i) text += static_cast<char>('a' + i % 26);
  WriteHost(text);
  std::string got;
  for (const Packet& packet : Packets()) {
    EXPECT_EQ(packet.header.op.value(), VIRTIO_VSOCK_OP_RW);
    got += packet.payload;
  }
  EXPECT_EQ(got, text);
}

TEST_P(VsockDeviceTest, TheGuestsWindowIsKept) {
  Start();
  GiveBuffers(64);
  Open();
  WriteHost(std::string(kGuestWindow + 5000, 'x'));
  size_t got = 0;
  for (const Packet& packet : Packets()) got += packet.payload.size();
  EXPECT_EQ(got, kGuestWindow);
  PacketHeader update = Header(VIRTIO_VSOCK_OP_CREDIT_UPDATE);
  update.fwd_cnt = kGuestWindow;
  Send(update);
  got = 0;
  for (const Packet& packet : Packets()) got += packet.payload.size();
  EXPECT_EQ(got, 5000u);
}

// Bytes are on their way, but have no buffer yet, when the guest takes its window back.
TEST_P(VsockDeviceTest, AWindowThatShrinksIsNotTheEnd) {
  Start();
  GiveBuffers(1);
  Open();
  WriteHost("later");
  PacketHeader update = Header(VIRTIO_VSOCK_OP_CREDIT_UPDATE);
  update.buf_alloc = 0;
  Send(update);
  GiveBuffers(8);
  EXPECT_EQ(Ops(), std::vector<int>{});
  std::string got;
  for (const uint32_t window : {2u, kGuestWindow}) {
    update.buf_alloc = window;
    Send(update);
    for (const Packet& packet : Packets()) {
      EXPECT_EQ(packet.header.op.value(), VIRTIO_VSOCK_OP_RW);
      got += packet.payload;
    }
    EXPECT_EQ(got, window == 2 ? "la" : "later");
  }
}

TEST_P(VsockDeviceTest, WithoutBuffersTheSocketFillsUp) {
  Start();
  GiveBuffers(1);
  Open();
  WriteHost("later");
  EXPECT_EQ(Ops(), std::vector<int>{});
  GiveBuffers(1);
  const std::vector<Packet> packets = Packets();
  ASSERT_EQ(packets.size(), 1u);
  EXPECT_EQ(packets[0].payload, "later");
}

TEST_P(VsockDeviceTest, AHostThatDoesNotReadStopsTheGuest) {
  Start();
  GiveBuffers(64);
  Open();
  const std::string block(32 << 10, 'y');
  size_t sent = 0;
  uint32_t forwarded = 0;
  // As a driver does: never beyond the window.
  while (sent - forwarded + block.size() <= kWindow) {
    SendData(block);
    sent += block.size();
    for (const Packet& packet : Packets()) {
      EXPECT_EQ(packet.header.op.value(), VIRTIO_VSOCK_OP_CREDIT_UPDATE);
      forwarded = packet.header.fwd_cnt;
    }
  }
  EXPECT_GT(sent, kWindow);  // what the socket took, and the ring
  size_t read = 0;
  while (read < sent) {
    const std::string part = ReadHost();
    ASSERT_NE(part, "(nothing)");
    EXPECT_EQ(part.find_first_not_of('y'), std::string::npos);
    read += part.size();
    loop_.RunUntilIdle();
  }
  for (const Packet& packet : Packets()) forwarded = packet.header.fwd_cnt;
  EXPECT_GE(forwarded + kWindow / 4, sent);
}

TEST_P(VsockDeviceTest, HalfClosedByTheGuest) {
  Start();
  GiveBuffers(8);
  Open();
  SendData("last");
  SendShutdown(VIRTIO_VSOCK_SHUTDOWN_SEND);
  EXPECT_EQ(ReadHost(), "last");
  EXPECT_EQ(ReadHost(), "");
  WriteHost("still here");
  const std::vector<Packet> packets = Packets();
  ASSERT_EQ(packets.size(), 1u);
  EXPECT_EQ(packets[0].payload, "still here");
}

TEST_P(VsockDeviceTest, HalfClosedByTheHost) {
  Start();
  GiveBuffers(8);
  Open();
  WriteHost("last");
  shutdown(HostEnd().fd().get(), SHUT_WR);
  loop_.RunUntilIdle();
  const std::vector<Packet> packets = Packets();
  ASSERT_EQ(packets.size(), 2u);
  EXPECT_EQ(packets[0].payload, "last");
  EXPECT_EQ(packets[1].header.op.value(), VIRTIO_VSOCK_OP_SHUTDOWN);
  EXPECT_EQ(packets[1].header.flags.value(), uint32_t{VIRTIO_VSOCK_SHUTDOWN_SEND});
  SendData("still here");
  EXPECT_EQ(ReadHost(), "still here");
}

TEST_P(VsockDeviceTest, ClosedByTheGuest) {
  Start();
  GiveBuffers(8);
  Open();
  SendData("last");
  SendShutdown(kShutdownBoth);
  EXPECT_EQ(Ops(), std::vector<int>{VIRTIO_VSOCK_OP_RST});
  EXPECT_EQ(ReadHost(), "last");
  EXPECT_EQ(ReadHost(), "");
  EXPECT_EQ(device_->streams().size(), 0u);
}

TEST_P(VsockDeviceTest, ClosedByTheHost) {
  Start();
  GiveBuffers(8);
  Open();
  WriteHost("last");
  HostEnd() = sys::UnixSocket();
  loop_.RunUntilIdle();
  std::vector<Packet> packets = Packets();
  ASSERT_EQ(packets.size(), 2u);
  EXPECT_EQ(packets[0].payload, "last");
  EXPECT_EQ(packets[1].header.op.value(), VIRTIO_VSOCK_OP_SHUTDOWN);
  EXPECT_EQ(packets[1].header.flags.value(), kShutdownBoth);
  Send(Header(VIRTIO_VSOCK_OP_RST));
  EXPECT_EQ(device_->streams().size(), 0u);
}

TEST_P(VsockDeviceTest, AGuestThatDoesNotAnswerACloseIsReset) {
  Start();
  GiveBuffers(8);
  Open();
  HostEnd() = sys::UnixSocket();
  loop_.RunUntilIdle();
  EXPECT_EQ(Ops(), std::vector<int>{VIRTIO_VSOCK_OP_SHUTDOWN});
  loop_.AdvanceTime(std::chrono::seconds(12));
  EXPECT_EQ(Ops(), std::vector<int>{VIRTIO_VSOCK_OP_RST});
  EXPECT_EQ(device_->streams().size(), 0u);
}

TEST_P(VsockDeviceTest, WritingToAHostThatIsGone) {
  Start();
  GiveBuffers(8);
  Open();
  shutdown(HostEnd().fd().get(), SHUT_RD);
  SendData("into the void");
  const std::vector<Packet> packets = Packets();
  ASSERT_EQ(packets.size(), 1u);
  EXPECT_EQ(packets[0].header.op.value(), VIRTIO_VSOCK_OP_SHUTDOWN);
  EXPECT_EQ(packets[0].header.flags.value(), uint32_t{VIRTIO_VSOCK_SHUTDOWN_RCV});
  WriteHost("but it speaks");
  ASSERT_EQ(Packets().size(), 1u);
}

TEST_P(VsockDeviceTest, WhatAClosedStreamHasSentIsDelivered) {
  Start();
  GiveBuffers(8);
  Open();
  const std::string block(32 << 10, 'q');
  size_t sent = 0;
  // Fills the socket and some of the ring.
  for (int i = 0; i < 11; ++i, sent += block.size()) SendData(block);
  SendShutdown(kShutdownBoth);
  Send(Header(VIRTIO_VSOCK_OP_RST));
  size_t got = 0;
  while (true) {
    const std::string part = ReadHost();
    if (part.empty()) break;
    ASSERT_NE(part, "(nothing)");
    got += part.size();
    loop_.RunUntilIdle();
  }
  EXPECT_EQ(got, sent);
  EXPECT_EQ(device_->streams().size(), 0u);
}

TEST_P(VsockDeviceTest, CreditOnRequest) {
  Start();
  GiveBuffers(8);
  Open();
  SendData("12345");
  Send(Header(VIRTIO_VSOCK_OP_CREDIT_REQUEST));
  const std::vector<Packet> packets = Packets();
  ASSERT_EQ(packets.size(), 1u);
  EXPECT_EQ(packets[0].header.op.value(), VIRTIO_VSOCK_OP_CREDIT_UPDATE);
  EXPECT_EQ(packets[0].header.fwd_cnt.value(), 5u);
}

TEST_P(VsockDeviceTest, StreamsTakeTurns) {
  Start();
  GiveBuffers(200);
  for (uint32_t i = 0; i < 8; ++i) Open(1000 + i);
  for (sys::UnixSocket& socket : host_.accepted[kHostPort]) {
    const std::string text(100, 'x');
    ASSERT_EQ(send(socket.fd().get(), text.data(), text.size(), 0), 100);
  }
  loop_.RunUntilIdle();
  std::map<uint32_t, size_t> bytes;
  for (const Packet& packet : Packets()) bytes[packet.header.dst_port] += packet.payload.size();
  EXPECT_EQ(bytes.size(), 8u);
  for (const auto& [port, count] : bytes) EXPECT_EQ(count, 100u);
}

TEST_P(VsockDeviceTest, AFirstStartSendsNoEvent) {
  drivers_[kEvents].Chain().Writable(8).Submit();
  Start();
  Kick(kEvents);
  EXPECT_TRUE(drivers_[kEvents].AllUsed().empty());
}

TEST_P(VsockDeviceTest, ASuccessorSaysThatStreamsAreGone) {
  for (int i = 0; i < 4; ++i) drivers_[kEvents].Chain().Writable(8).Submit();
  Start();
  GiveBuffers(8);
  Open();
  StopQueues();
  device_->Reset();
  Make();
  Start();
  const std::vector<Used> events = drivers_[kEvents].AllUsed();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].written, sizeof(virtio_vsock_event));
  EXPECT_EQ(events[0].data[0], VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
  SendData("what stream?");
  EXPECT_EQ(Ops(), std::vector<int>{VIRTIO_VSOCK_OP_RST});
  Open(kGuestPort + 1);
}

TEST_P(VsockDeviceTest, AResetClosesTheHostsEnds) {
  Start();
  GiveBuffers(8);
  Open();
  Stop();
  EXPECT_EQ(ReadHost(), "");
  EXPECT_EQ(device_->streams().size(), 0u);
}

}  // namespace
}  // namespace crosvm::devices::vsock

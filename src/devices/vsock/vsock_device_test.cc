// The virtual socket device against a driver of ours and sockets of the host.
#include "devices/vsock/vsock_device.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <deque>

#include "devices/vsock/testing/fake_connector.h"
#include "event/test_loop.h"
#include "virtio/testing/driver.h"
#include "virtio/types.h"

namespace crosvm::devices::vsock {
namespace {

using testing::FakeConnector;
using virtio::testing::Driver;
using virtio::testing::Used;

constexpr uint64_t kCid = 42;
constexpr uint16_t kRx = 0;
constexpr uint16_t kTx = 1;
constexpr uint16_t kEvents = 2;
constexpr uint32_t kGuestPort = 5000;
constexpr uint32_t kHostPort = 1234;
constexpr uint32_t kGuestWindow = 64 << 10;

struct Packet {
  PacketHeader header;
  std::string payload;
};

class VsockDeviceTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    Make();
    for (uint16_t i = 0; i < 3; ++i) {
      drivers_.emplace_back(
          memory_, virtio::testing::DriverOptions{.size = 256,
                                                  .packed = GetParam(),
                                                  .area = memory::GuestAddr(0x1000 + i * 0x1000000),
                                                  .area_size = 0xff0000});
    }
    host_.listening.insert(kHostPort);
  }
  void TearDown() override {
    if (device_ != nullptr && running_) Stop();
  }
  void Make() {
    auto [test, device] = *sys::UnixSocket::Pair(sys::SocketType::kStream);
    device_ = *VsockDevice::Create(loop_, kCid, std::make_unique<FakeConnector>(host_), {});
  }
  void Start() {
    device_->Configure(drivers_[0].features());
    for (uint16_t i = 0; i < 3; ++i) {
      ASSERT_TRUE(
          device_->StartQueue(i, drivers_[i].MakeQueue(nullptr, positions_[i])).has_value());
    }
    running_ = true;
    loop_.RunUntilIdle();
  }
  void StopQueues() {
    for (uint16_t i = 0; i < 3; ++i) {
      device_->StopQueue(i, [&](virtio::Queue queue) { positions_[i] = queue.position(); });
    }
    running_ = false;
  }
  void Stop() {
    StopQueues();
    device_->Reset();
  }
  void Kick(uint16_t queue) {
    drivers_[queue].Kick();
    loop_.RunUntilIdle();
  }
  void GiveBuffers(int count, uint32_t size = 4096 + 44) {
    for (int i = 0; i < count; ++i) drivers_[kRx].Chain().Writable(size).Submit();
    Kick(kRx);
  }
  static PacketHeader Header(uint16_t op) {
    PacketHeader header;
    header.src_cid = kCid;
    header.dst_cid = kHostCid;
    header.src_port = kGuestPort;
    header.dst_port = kHostPort;
    header.type = VIRTIO_VSOCK_TYPE_STREAM;
    header.op = op;
    header.buf_alloc = kGuestWindow;
    return header;
  }
  void Send(const PacketHeader& header, std::string_view payload = {}) {
    auto chain = drivers_[kTx].Chain();
    chain.ReadableStruct(header);
    if (!payload.empty()) chain.Readable(payload);
    chain.Submit();
    Kick(kTx);
    (void)drivers_[kTx].AllUsed();
  }
  void SendData(std::string_view payload, uint32_t guest_port = kGuestPort) {
    PacketHeader header = Header(VIRTIO_VSOCK_OP_RW);
    header.src_port = guest_port;
    header.len = static_cast<uint32_t>(payload.size());
    Send(header, payload);
  }
  void SendShutdown(uint32_t flags) {
    PacketHeader header = Header(VIRTIO_VSOCK_OP_SHUTDOWN);
    header.flags = flags;
    Send(header);
  }
  std::vector<Packet> Packets() {
    std::vector<Packet> packets;
    for (const Used& used : drivers_[kRx].AllUsed()) {
      if (used.written < sizeof(PacketHeader)) {
        ADD_FAILURE() << "a packet of " << used.written;
        continue;
      }
      Packet packet;
      memcpy(&packet.header, used.data.data(), sizeof(packet.header));
      packet.payload.assign(used.data.begin() + sizeof(PacketHeader),
                            used.data.begin() + used.written);
      EXPECT_EQ(packet.header.len.value(), packet.payload.size());
      EXPECT_EQ(packet.header.dst_cid.value(), kCid);
      packets.push_back(std::move(packet));
    }
    return packets;
  }
  // The operations of what has come, in words of their numbers.
  std::vector<int> Ops() {
    std::vector<int> ops;
    for (const Packet& packet : Packets()) ops.push_back(packet.header.op);
    return ops;
  }
  sys::UnixSocket& HostEnd(uint32_t port = kHostPort) { return host_.accepted.at(port).back(); }
  std::string ReadHost(size_t most = 1 << 20) {
    std::string text(most, '\0');
    const ssize_t got = recv(HostEnd().fd().get(), text.data(), most, MSG_DONTWAIT);
    if (got < 0) return errno == EAGAIN ? "(nothing)" : strerrorname_np(errno);
    text.resize(static_cast<size_t>(got));
    return text;
  }
  void WriteHost(std::string_view text) {
    ASSERT_EQ(send(HostEnd().fd().get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
    loop_.RunUntilIdle();
  }
  // A stream from the guest to kHostPort.
  void Open(uint32_t guest_port = kGuestPort) {
    PacketHeader header = Header(VIRTIO_VSOCK_OP_REQUEST);
    header.src_port = guest_port;
    Send(header);
    const std::vector<Packet> packets = Packets();
    ASSERT_EQ(packets.size(), 1u);
    ASSERT_EQ(packets[0].header.op.value(), VIRTIO_VSOCK_OP_RESPONSE);
    ASSERT_EQ(packets[0].header.buf_alloc.value(), kWindow);
    ASSERT_EQ(packets[0].header.src_port.value(), kHostPort);
    ASSERT_EQ(packets[0].header.dst_port.value(), guest_port);
  }

  event::TestLoop loop_;
  memory::GuestMemory memory_ = Driver::MakeMemory(64 << 20);
  FakeConnector::Host host_;
  std::unique_ptr<VsockDevice> device_;
  std::deque<Driver> drivers_;
  virtio::RingPosition positions_[3];
  bool running_ = false;
};

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

TEST_P(VsockDeviceTest, Hostile_MoreThanTheWindowIsAReset) {
  Start();
  GiveBuffers(64);
  Open();
  const std::string block(64 << 10, 'z');
  for (int i = 0; i < 100 && device_->streams().size() != 0; ++i) SendData(block);
  const std::vector<int> ops = Ops();
  ASSERT_FALSE(ops.empty());
  EXPECT_EQ(ops.back(), VIRTIO_VSOCK_OP_RST);
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

// --- packets that make no sense ---

TEST_P(VsockDeviceTest, Hostile_UnknownStreamsAreReset) {
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

TEST_P(VsockDeviceTest, Hostile_OperationsThatEndAStream) {
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

TEST_P(VsockDeviceTest, Hostile_OtherAddressesAndTypes) {
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

TEST_P(VsockDeviceTest, Hostile_LengthsThatLie) {
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

TEST_P(VsockDeviceTest, Hostile_DataAfterShutdown) {
  Start();
  GiveBuffers(8);
  Open();
  SendShutdown(VIRTIO_VSOCK_SHUTDOWN_SEND);
  SendData("more");
  EXPECT_EQ(Ops(), std::vector<int>{VIRTIO_VSOCK_OP_RST});
}

TEST_P(VsockDeviceTest, Hostile_BuffersTooSmallForAPacket) {
  Start();
  for (const uint32_t size : {1u, 43u, 44u}) drivers_[kRx].Chain().Writable(size).Submit();
  drivers_[kRx].Chain().Writable(45).Submit();
  Send(Header(VIRTIO_VSOCK_OP_RW));
  const std::vector<Used> used = drivers_[kRx].AllUsed();
  ASSERT_EQ(used.size(), 4u);
  EXPECT_EQ(used[0].written + used[1].written + used[2].written, 0u);
  EXPECT_EQ(used[3].written, sizeof(PacketHeader));
}

TEST_P(VsockDeviceTest, Hostile_AFloodOfRequestsIsBounded) {
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

TEST_P(VsockDeviceTest, Hostile_OpeningAndResettingWithoutTakingAnswers) {
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

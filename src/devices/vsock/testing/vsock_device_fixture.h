// The fixture of the device's tests: one for split and one for packed rings.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "devices/vsock/testing/fake_connector.h"
#include "devices/vsock/vsock_device.h"
#include "event/test_loop.h"
#include "virtio/testing/driver.h"
#include "virtio/types.h"

namespace crosvm::devices::vsock::testing {

using virtio::testing::Driver;
using virtio::testing::Used;

inline constexpr uint64_t kCid = 42;
inline constexpr uint16_t kRx = 0;
inline constexpr uint16_t kTx = 1;
inline constexpr uint16_t kEvents = 2;
inline constexpr uint32_t kGuestPort = 5000;
inline constexpr uint32_t kHostPort = 1234;
inline constexpr uint32_t kGuestWindow = 64 << 10;

struct Packet {
  PacketHeader header;
  std::string payload;
};

// The device, its three drivers, and the host's ends of streams.
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

}  // namespace crosvm::devices::vsock::testing

// Real taps: frames between a device's queues and a packet socket on the other side of the tap.
#include "devices/net/tap_port.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>

#include "codec/key_value.h"
#include "devices/net/net_device.h"
#include "devices/net/net_module.h"
#include "devices/net/net_wire.h"
#include "event/event_loop.h"
#include "sys/tap.h"
#include "virtio/testing/driver.h"

namespace crosvm::devices::net {
namespace {

using virtio::testing::Driver;

constexpr uint16_t kProtocol = 0x88b5;  // for experiments

class TapPortTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (access("/dev/net/tun", R_OK | W_OK) != 0 || unshare(CLONE_NEWNET) != 0) {
      GTEST_SKIP() << "needs /dev/net/tun and a network namespace (root)";
    }
  }
  // A packet socket that sees frames of our protocol on the tap.
  sys::UniqueFd OpenPeer(const std::string& name) {
    sys::UniqueFd peer(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(kProtocol)));
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(kProtocol);
    address.sll_ifindex = static_cast<int>(if_nametoindex(name.c_str()));
    // SAFETY: the sockets interface takes any address by its first member.
    EXPECT_EQ(bind(peer.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    return peer;
  }
  static std::vector<uint8_t> Frame(size_t length) {
    std::vector<uint8_t> frame(length);
    for (size_t i = 0; i < length; ++i) frame[i] = static_cast<uint8_t>(i * 7);
    frame[0] = 2;
    frame[6] = 2;
    frame[12] = kProtocol >> 8;
    frame[13] = kProtocol & 0xff;
    return frame;
  }
};

TEST_F(TapPortTest, ProbesOffloads) {
  const auto tap = sys::MakeTap("probe", 1);
  ASSERT_TRUE(tap.has_value()) << tap.error().ToString();
  const uint64_t features = ProbeTapFeatures(tap->queues[0]);
  EXPECT_TRUE(features & virtio::FeatureBit(VIRTIO_NET_F_CSUM));
  EXPECT_TRUE(features & virtio::FeatureBit(VIRTIO_NET_F_GUEST_TSO4));
  EXPECT_TRUE(features & virtio::FeatureBit(VIRTIO_NET_F_HOST_TSO6));
}

// What the kernel refuses in part it refuses whole.
TEST_F(TapPortTest, AnyPartOfTheOffloadsCanBeSet) {
  auto tap = sys::MakeTap("parts", 1);
  ASSERT_TRUE(tap.has_value()) << tap.error().ToString();
  const uint64_t features = ProbeTapFeatures(tap->queues[0]) & kGuestOffloads;
  TapPort port(std::move(tap->queues[0]));
  std::vector<uint64_t> bits;
  for (unsigned bit = 0; bit < 64; ++bit) {
    if ((features >> bit & 1) != 0) bits.push_back(virtio::FeatureBit(bit));
  }
  for (uint64_t part = 0; part < uint64_t{1} << bits.size(); ++part) {
    uint64_t some = 0;
    for (size_t i = 0; i < bits.size(); ++i) some |= (part >> i & 1) != 0 ? bits[i] : 0;
    const Status set = port.SetOffloads(some);
    EXPECT_TRUE(set.has_value()) << std::hex << some << ": " << set.error().ToString();
  }
}

TEST_F(TapPortTest, MovesFramesBothWays) {
  auto tap = sys::MakeTap("wire", 1);
  ASSERT_TRUE(tap.has_value()) << tap.error().ToString();
  ASSERT_TRUE(
      sys::ConfigureTap("wire", {.ip = {10, 9, 8, 1}, .netmask = {255, 255, 255, 0}, .mac = {}})
          .has_value());
  const sys::UniqueFd peer = OpenPeer("wire");
  auto loop = *event::EventLoop::Create();
  const memory::GuestMemory memory = Driver::MakeMemory();
  Driver receive(memory, {.area = memory::GuestAddr(0x1000), .area_size = 0x100000});
  Driver transmit(memory, {.area = memory::GuestAddr(0x201000), .area_size = 0x100000});
  std::vector<std::unique_ptr<PacketPort>> ports;
  ports.push_back(std::make_unique<TapPort>(std::move(tap->queues[0])));
  const std::unique_ptr<NetDevice> made = *NetDevice::Create(*loop, std::move(ports), {});
  NetDevice& device = *made;
  device.Configure(device.info().features);
  for (int i = 0; i < 8; ++i) receive.Chain().Writable(300).Submit();
  ASSERT_TRUE(device.StartQueue(0, receive.MakeQueue()).has_value());
  ASSERT_TRUE(device.StartQueue(1, transmit.MakeQueue()).has_value());

  const std::vector<uint8_t> frame = Frame(1000);
  ASSERT_EQ(send(peer.get(), frame.data(), frame.size(), 0), 1000);
  std::vector<uint8_t> got;
  // The host's own frames (router solicitations) come too.
  while (got.size() < 26 || got[24] != (kProtocol >> 8)) {
    got.clear();
    std::optional<virtio::testing::Used> used;
    while (!(used = receive.NextUsed()))
      ASSERT_TRUE(loop->RunOnce(std::chrono::seconds(10)).has_value());
    got.assign(used->data.begin(), used->data.begin() + used->written);
    for (int buffers = got[10]; buffers > 1; --buffers) {
      used = receive.NextUsed();
      ASSERT_TRUE(used.has_value());
      got.insert(got.end(), used->data.begin(), used->data.begin() + used->written);
    }
  }
  EXPECT_EQ(std::vector<uint8_t>(got.begin() + kHeaderBytes, got.end()), frame);

  transmit.Chain().Readable(std::vector<uint8_t>(kHeaderBytes)).Readable(frame).Submit();
  transmit.Kick();
  while (!transmit.NextUsed()) ASSERT_TRUE(loop->RunOnce(std::chrono::seconds(10)).has_value());
  std::vector<uint8_t> sent(2000);
  sent.resize(static_cast<size_t>(recv(peer.get(), sent.data(), sent.size(), 0)));
  EXPECT_EQ(sent, frame);

  // A header that promises segments which the frame cannot have.
  std::vector<uint8_t> lie(kHeaderBytes);
  lie[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
  lie[1] = VIRTIO_NET_HDR_GSO_TCPV4;
  lie[2] = lie[3] = lie[4] = lie[5] = lie[6] = lie[7] = 0xff;
  transmit.Chain().Readable(lie).Readable(frame).Submit();
  transmit.Kick();
  while (!transmit.NextUsed()) ASSERT_TRUE(loop->RunOnce(std::chrono::seconds(10)).has_value());
  EXPECT_EQ(device.counters(0).tx_dropped, 1u);
  for (uint16_t index : {0, 1}) device.StopQueue(index, [](virtio::Queue) {});
}

TEST_F(TapPortTest, ModulePreparesAndCreates) {
  auto loop = *event::EventLoop::Create();
  for (const char* option :
       {"host-ip=10.7.7.1,netmask=255.255.255.0,host-mac=02:00:00:00:00:05,vq-pairs=2",
        "host-ip=10.7.8.1,netmask=255.255.255.0,mac=02:00:00:00:00:06"}) {
    auto prepared = kNetModule.prepare(option);
    ASSERT_TRUE(prepared.has_value()) << prepared.error().ToString();
    auto device = kNetModule.create(std::move(*prepared), {.loop = *loop});
    ASSERT_TRUE(device.has_value()) << device.error().ToString();
    std::array<uint8_t, 12> config{};
    (*device)->ReadConfig(0, config);
    EXPECT_EQ(config[0] & 3, 2);
    EXPECT_EQ(config[10] | config[11] << 8, 1500);
  }
}

TEST(TunOffloads, UdpSegmentsOfBothKindsOrNone) {
  using virtio::FeatureBit;
  constexpr uint64_t kSums = FeatureBit(VIRTIO_NET_F_GUEST_CSUM);
  constexpr uint64_t kOf4 = FeatureBit(kFeatureGuestUso4);
  constexpr uint64_t kOf6 = FeatureBit(kFeatureGuestUso6);
  EXPECT_EQ(TunOffloads(kSums | kOf4), unsigned{TUN_F_CSUM});
  EXPECT_EQ(TunOffloads(kSums | kOf6), unsigned{TUN_F_CSUM});
  EXPECT_EQ(TunOffloads(kSums | kOf4 | kOf6), TUN_F_CSUM | kTunUso4 | kTunUso6);
  EXPECT_EQ(TunOffloads(kOf4 | kOf6), 0u);
}

TEST(NetModule, SaysWhatIsWrong) {
  const auto problem = [](std::string_view option) {
    const auto prepared = kNetModule.prepare(option);
    return prepared.has_value() ? std::string() : prepared.error().ToString();
  };
  EXPECT_NE(problem("").find("tap-name"), std::string::npos);
  EXPECT_NE(problem("tap-name=absent0").find("ip tuntap add"), std::string::npos);
  EXPECT_NE(problem("tap-fd=999").find("tap-fd=999"), std::string::npos);
  EXPECT_NE(problem("tap-name=lo,host-mac=02:00:00:00:00:06").find("host-mac"), std::string::npos);
  EXPECT_FALSE(problem("nonsense=1").empty());
}

TEST(NetModule, Hostile_StartMessages) {
  auto loop = *event::EventLoop::Create();
  EXPECT_FALSE(kNetModule.create({}, {.loop = *loop}).has_value());
  EXPECT_FALSE(kNetModule.create({.start = {0xa0}, .fds = {}}, {.loop = *loop}).has_value());
}

}  // namespace
}  // namespace crosvm::devices::net

#include "devices/net/net_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/endian.h"
#include "devices/net/net_wire.h"
#include "devices/net/testing/fake_port.h"
#include "event/test_loop.h"
#include "sys/memfd.h"
#include "virtio/testing/driver.h"

namespace crosvm::devices::net {
namespace {

using testing::FakePort;
using testing::FakeWire;
using testing::Frame;
using virtio::FeatureBit;
using virtio::testing::Driver;
using virtio::testing::Used;

constexpr Mac kOwnMac = {2, 0, 0, 0, 0, 1};
constexpr uint64_t kOffloads = FeatureBit(VIRTIO_NET_F_CSUM) | FeatureBit(VIRTIO_NET_F_GUEST_CSUM) |
                               FeatureBit(VIRTIO_NET_F_GUEST_TSO4);

// A frame of `length` bytes after the header, for `destination`, with contents that tell one from
// another.
Frame MakeFrame(size_t length, uint8_t seed, Mac destination = kOwnMac) {
  Frame frame(kHeaderBytes + length);
  std::iota(frame.begin() + kHeaderBytes, frame.end(), seed);
  std::copy(destination.begin(), destination.end(), frame.begin() + kHeaderBytes);
  return frame;
}

// A device with two pairs over fake ports, and a driver for each queue. Memory is shared.
class NetTest : public ::testing::TestWithParam<bool> {
 protected:
  NetTest() {
    for (size_t i = 0; i < 5; ++i) drivers_.push_back(MakeDriver(i));
    std::vector<std::unique_ptr<PacketPort>> ports;
    for (FakeWire& wire : wires_) ports.push_back(std::make_unique<FakePort>(wire));
    device_ =
        *NetDevice::Create(loop_, std::move(ports),
                           DeviceOptions{.mac = kOwnMac, .mtu = 1500, .port_features = kOffloads});
  }

  ~NetTest() override {
    for (size_t i = 0; i < started_.size(); ++i) {
      if (started_[i]) Stop(static_cast<uint16_t>(i));
    }
  }

  std::unique_ptr<Driver> MakeDriver(size_t i) {
    return std::make_unique<Driver>(
        memory_, virtio::testing::DriverOptions{.size = 64,
                                                .packed = GetParam(),
                                                .event_idx = true,
                                                .area = memory::GuestAddr(0x1000 + i * 0x100000),
                                                .area_size = 0x100000});
  }
  void Start(uint64_t without = 0) {
    device_->Configure(device_->info().features & ~without);
    for (uint16_t i = 0; i < 5; ++i) StartQueue(i);
  }
  void StartQueue(uint16_t index) {
    const Status started = device_->StartQueue(index, drivers_[index]->MakeQueue());
    ASSERT_TRUE(started.has_value()) << started.error().ToString();
    started_[index] = true;
  }
  void Stop(uint16_t index) {
    started_[index] = false;
    bool stopped = false;
    device_->StopQueue(index, [&](virtio::Queue queue) {
      stopped = true;
      EXPECT_EQ(queue.chains_in_flight(), 0u);
    });
    EXPECT_TRUE(stopped);
  }
  void Kick(size_t index) {
    drivers_[index]->Kick();
    loop_.RunUntilIdle();
  }
  void GiveBuffers(size_t queue, int count, uint32_t size) {
    for (int i = 0; i < count; ++i) drivers_[queue]->Chain().Writable(size).Submit();
    Kick(queue);
  }
  // The bytes of a received frame, put together from its `num_buffers` buffers; empty when there is
  // none.
  Frame Received(size_t queue) {
    std::optional<Used> used = drivers_[queue]->NextUsed();
    if (!used) return {};
    Frame frame(used->data.begin(), used->data.begin() + used->written);
    if (frame.size() < kHeaderBytes) return frame;
    int buffers = frame[10] | frame[11] << 8;
    frame[10] = frame[11] = 0;
    while (--buffers > 0) {
      used = drivers_[queue]->NextUsed();
      EXPECT_TRUE(used.has_value());
      if (!used) break;
      frame.insert(frame.end(), used->data.begin(), used->data.begin() + used->written);
    }
    return frame;
  }
  // Sends a control command; the device's answer.
  int Command(uint8_t command_class, uint8_t command, const Frame& data) {
    Frame request = {command_class, command};
    request.insert(request.end(), data.begin(), data.end());
    drivers_[4]->Chain().Readable(request).Writable(1).Submit();
    Kick(4);
    const std::optional<Used> used = drivers_[4]->NextUsed();
    return used && used->written == 1 ? used->data[0] : -1;
  }

  memory::GuestMemory memory_ = Driver::MakeMemory(8 << 20);
  event::TestLoop loop_;
  std::array<FakeWire, 2> wires_;
  std::vector<std::unique_ptr<Driver>> drivers_;
  std::unique_ptr<NetDevice> device_;
  std::array<bool, 5> started_{};
};

INSTANTIATE_TEST_SUITE_P(Rings, NetTest, ::testing::Bool(), [](const auto& param_info) {
  return param_info.param ? "Packed" : "Split";
});

TEST_P(NetTest, OffersWhatItsPortsCan) {
  const uint64_t features = device_->info().features;
  EXPECT_EQ(features & kOffloads, kOffloads);
  EXPECT_FALSE(features & FeatureBit(VIRTIO_NET_F_HOST_UFO));
  EXPECT_TRUE(features & FeatureBit(VIRTIO_NET_F_MQ));
  std::array<uint8_t, 12> config{};
  device_->ReadConfig(0, config);
  EXPECT_TRUE(std::equal(kOwnMac.begin(), kOwnMac.end(), config.begin()));
  EXPECT_EQ(config[6], VIRTIO_NET_S_LINK_UP);
  EXPECT_EQ(config[8], 2);  // pairs
  EXPECT_EQ(config[10] | config[11] << 8, 1500);
}

TEST_P(NetTest, SendsFramesOfSeveralParts) {
  Start();
  const Frame frame = MakeFrame(1000, 7);
  drivers_[1]
      ->Chain()
      .Readable(std::span(frame).first(5))
      .Readable(std::span(frame).subspan(5, 20))
      .Readable(std::span(frame).subspan(25))
      .Submit();
  drivers_[1]->Chain().Readable(MakeFrame(60, 9)).Submit();
  Kick(1);
  ASSERT_EQ(wires_[0].from_guest.size(), 2u);
  EXPECT_EQ(wires_[0].from_guest[0], frame);
  EXPECT_EQ(wires_[0].from_guest[1], MakeFrame(60, 9));
  EXPECT_EQ(drivers_[1]->AllUsed().size(), 2u);
  EXPECT_EQ(device_->counters(0).tx_frames, 2u);
}

TEST_P(NetTest, ManyFramesAreSentInOneKickAndOneInterruptAtATime) {
  Start();
  for (int i = 0; i < 60; ++i)
    drivers_[1]->Chain().Readable(MakeFrame(60, static_cast<uint8_t>(i))).Stage();
  drivers_[1]->Publish();
  drivers_[1]->InterruptAfter(1);
  Kick(1);
  EXPECT_EQ(wires_[0].from_guest.size(), 60u);
  EXPECT_EQ(drivers_[1]->Interrupts(), 1u);
}

TEST_P(NetTest, ReceivesIntoOneBuffer) {
  Start();
  GiveBuffers(0, 4, 2048);
  wires_[0].to_guest = {MakeFrame(100, 1), MakeFrame(1400, 2)};
  wires_[0].Poll();
  EXPECT_EQ(Received(0), MakeFrame(100, 1));
  EXPECT_EQ(Received(0), MakeFrame(1400, 2));
  EXPECT_TRUE(Received(0).empty());
}

TEST_P(NetTest, MergesBuffersForALongFrame) {
  Start();
  GiveBuffers(0, 60, 1536);
  const Frame longest = MakeFrame(kMaxFrameBytes - kHeaderBytes, 3);
  wires_[0].to_guest = {longest, MakeFrame(60, 4)};
  wires_[0].Poll();
  EXPECT_EQ(Received(0), longest);
  EXPECT_EQ(Received(0), MakeFrame(60, 4));
}

TEST_P(NetTest, AFrameWaitsForTheBuffersThatItLacks) {
  Start();
  GiveBuffers(0, 3, 1000);
  const Frame frame = MakeFrame(9000, 5);
  wires_[0].to_guest = {frame, MakeFrame(70, 6)};
  wires_[0].Poll();
  EXPECT_TRUE(Received(0).empty());
  EXPECT_FALSE(wires_[0].receiving);
  GiveBuffers(0, 2, 1000);
  EXPECT_TRUE(Received(0).empty());
  EXPECT_FALSE(wires_[0].receiving);
  GiveBuffers(0, 8, 1000);
  EXPECT_EQ(Received(0), frame);
  EXPECT_TRUE(wires_[0].receiving);
  wires_[0].Poll();
  EXPECT_EQ(Received(0), MakeFrame(70, 6));
}

TEST_P(NetTest, WithoutMergingOneBufferMustDo) {
  Start(FeatureBit(VIRTIO_NET_F_MRG_RXBUF));
  GiveBuffers(0, 3, 1000);
  wires_[0].to_guest = {MakeFrame(2000, 1), MakeFrame(900, 2)};
  wires_[0].Poll();
  const std::optional<Used> used = drivers_[0]->NextUsed();
  ASSERT_TRUE(used.has_value());
  EXPECT_EQ(used->written, 912u);
  EXPECT_EQ(used->data[10], 1);  // num_buffers
  EXPECT_EQ(device_->counters(0).rx_dropped, 1u);
}

TEST_P(NetTest, BackPressureWithoutBuffers) {
  Start();
  wires_[0].to_guest.assign(5, MakeFrame(100, 1));
  EXPECT_FALSE(wires_[0].receiving);
  GiveBuffers(0, 2, 200);
  EXPECT_TRUE(wires_[0].receiving);
  wires_[0].Poll();
  EXPECT_FALSE(wires_[0].receiving);
  EXPECT_EQ(wires_[0].to_guest.size(), 3u);
  // Starved, it wants to hear of new buffers.
  (void)drivers_[0]->KickWanted();
  for (int i = 0; i < 4; ++i) drivers_[0]->Chain().Writable(200).Submit();
  EXPECT_TRUE(drivers_[0]->KickWanted());
  Kick(0);
  wires_[0].Poll();
  EXPECT_EQ(drivers_[0]->AllUsed().size(), 5u);
}

TEST_P(NetTest, StoppingUndoesHeldBuffers) {
  Start();
  GiveBuffers(0, 8, 500);
  wires_[0].to_guest = {MakeFrame(7000, 1)};  // waits for more buffers, and is lost
  wires_[0].Poll();
  Stop(0);
  EXPECT_FALSE(wires_[0].receiving);
  EXPECT_TRUE(drivers_[0]->AllUsed().empty());
}

TEST_P(NetTest, ABrokenPortIsAskedAgainLater) {
  Start();
  GiveBuffers(0, 2, 200);
  wires_[0].error = EBADFD;
  wires_[0].Poll();
  EXPECT_FALSE(wires_[0].receiving);
  wires_[0].error = 0;
  loop_.AdvanceTime(std::chrono::seconds(2));
  EXPECT_TRUE(wires_[0].receiving);
}

TEST_P(NetTest, ControlSetsPairs) {
  Start();
  EXPECT_TRUE(wires_[0].attached);
  EXPECT_FALSE(wires_[1].attached);
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, {2, 0}), VIRTIO_NET_OK);
  EXPECT_TRUE(wires_[1].attached);
  GiveBuffers(2, 2, 500);
  wires_[1].to_guest = {MakeFrame(80, 8)};
  wires_[1].Poll();
  EXPECT_EQ(Received(2), MakeFrame(80, 8));
  drivers_[3]->Chain().Readable(MakeFrame(90, 9)).Submit();
  Kick(3);
  EXPECT_EQ(wires_[1].from_guest.size(), 1u);
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, {1, 0}), VIRTIO_NET_OK);
  EXPECT_FALSE(wires_[1].attached);
  EXPECT_FALSE(wires_[1].receiving);
  for (const Frame& pairs : {Frame{0, 0}, Frame{3, 0}, Frame{0, 0x80}, Frame{1}}) {
    EXPECT_EQ(Command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, pairs), VIRTIO_NET_ERR);
  }
}

TEST_P(NetTest, FilledPairsOfAPredecessorAreAttachedAgain) {
  device_->Configure(device_->info().features);
  drivers_[2]->Chain().Writable(500).Submit();
  StartQueue(2);
  EXPECT_TRUE(wires_[1].attached);
  EXPECT_TRUE(wires_[1].receiving);
}

TEST_P(NetTest, ControlQueueMovesWithoutMq) {
  device_->Configure(device_->info().features & ~FeatureBit(VIRTIO_NET_F_MQ));
  StartQueue(0);
  StartQueue(1);
  StartQueue(2);
  drivers_[2]
      ->Chain()
      .Readable(Frame{VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 1})
      .Writable(1)
      .Submit();
  Kick(2);
  const std::optional<Used> used = drivers_[2]->NextUsed();
  ASSERT_TRUE(used.has_value());
  EXPECT_EQ(used->data[0], VIRTIO_NET_OK);
}

TEST_P(NetTest, OffloadsFollowFeaturesAndCommands) {
  Start();
  const uint64_t both = FeatureBit(VIRTIO_NET_F_GUEST_CSUM) | FeatureBit(VIRTIO_NET_F_GUEST_TSO4);
  EXPECT_EQ(wires_[0].offloads, both);
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, {2, 0, 0, 0, 0, 0, 0, 0}), VIRTIO_NET_OK);
  EXPECT_EQ(wires_[0].offloads, FeatureBit(VIRTIO_NET_F_GUEST_CSUM));
  // One that was not negotiated.
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, {0, 1, 0, 0, 0, 0, 0, 0}), VIRTIO_NET_ERR);
  EXPECT_EQ(wires_[0].offloads, FeatureBit(VIRTIO_NET_F_GUEST_CSUM));
  // One that the host does not do after all.
  wires_[0].refuse_offloads = true;
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, {0, 0, 0, 0, 0, 0, 0, 0}), VIRTIO_NET_ERR);
  wires_[0].refuse_offloads = false;
  // The next driver may know of none.
  for (uint16_t i = 0; i < 5; ++i) Stop(i);
  device_->Reset();
  EXPECT_EQ(wires_[0].offloads, 0u);
}

TEST_P(NetTest, FiltersByModeAndTables) {
  Start();
  GiveBuffers(0, 30, 200);
  const Mac other = {2, 0, 0, 0, 0, 9}, group = {1, 0, 0x5e, 0, 0, 1},
            broadcast = {255, 255, 255, 255, 255, 255};
  const auto passes = [&](Mac destination) {
    wires_[0].to_guest = {MakeFrame(60, 1, destination)};
    wires_[0].Poll();
    return !Received(0).empty();
  };
  EXPECT_TRUE(passes(other));
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, {0}), VIRTIO_NET_OK);
  EXPECT_FALSE(passes(other));
  EXPECT_FALSE(passes(group));
  EXPECT_TRUE(passes(kOwnMac));
  EXPECT_TRUE(passes(broadcast));
  EXPECT_EQ(device_->counters(0).rx_filtered, 2u);
  Frame tables = {1, 0, 0, 0};
  tables.insert(tables.end(), other.begin(), other.end());
  tables.insert(tables.end(), {1, 0, 0, 0});
  tables.insert(tables.end(), group.begin(), group.end());
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables), VIRTIO_NET_OK);
  EXPECT_TRUE(passes(other));
  EXPECT_TRUE(passes(group));
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOBCAST, {1}), VIRTIO_NET_OK);
  EXPECT_FALSE(passes(broadcast));
  const Mac fresh = {2, 1, 1, 1, 1, 1};
  EXPECT_EQ(
      Command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, Frame(fresh.begin(), fresh.end())),
      VIRTIO_NET_OK);
  EXPECT_TRUE(passes(fresh));
  EXPECT_FALSE(passes(kOwnMac));
  std::array<uint8_t, 6> config{};
  device_->ReadConfig(0, config);
  EXPECT_EQ(config, fresh);
}

TEST_P(NetTest, ResetForgetsTheDriver) {
  Start();
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, {2, 0}), VIRTIO_NET_OK);
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, {2, 9, 9, 9, 9, 9}),
            VIRTIO_NET_OK);
  for (uint16_t i = 0; i < 5; ++i) Stop(i);
  device_->Reset();
  EXPECT_FALSE(wires_[1].attached);
  std::array<uint8_t, 6> config{};
  device_->ReadConfig(0, config);
  EXPECT_EQ(config, kOwnMac);
}

TEST_P(NetTest, Hostile_TransmitLengths) {
  Start();
  Driver& driver = *drivers_[1];
  driver.Chain().Readable(Frame(kHeaderBytes + kEthernetHeaderBytes - 1)).Submit();
  driver.Chain().Writable(4000).Submit();
  driver.Chain().Readable(Frame(kMaxFrameBytes)).Readable(Frame(1)).Submit();
  Kick(1);
  EXPECT_TRUE(wires_[0].from_guest.empty());
  EXPECT_EQ(device_->counters(0).tx_dropped, 3u);
  EXPECT_EQ(driver.AllUsed().size(), 3u);
  wires_[0].refuse = true;
  driver.Chain().Readable(MakeFrame(100, 1)).Submit();
  Kick(1);
  EXPECT_EQ(device_->counters(0).tx_dropped, 4u);
  EXPECT_EQ(driver.AllUsed().size(), 1u);
}

TEST_P(NetTest, Hostile_TinyAndUselessReceiveBuffers) {
  Start();
  Driver& driver = *drivers_[0];
  for (int i = 0; i < 20; ++i) driver.Chain().Writable(1).Submit();
  for (int i = 0; i < 10; ++i) driver.Chain().Readable("not writable").Submit();
  for (int i = 0; i < 30; ++i) driver.Chain().Writable(7).Submit();
  Kick(0);
  wires_[0].to_guest = {MakeFrame(100, 1), MakeFrame(5000, 2)};
  wires_[0].Poll();
  EXPECT_EQ(device_->counters(0).rx_frames, 1u);
  Stop(0);
}

TEST_P(NetTest, Hostile_ARingTooSmallForTheFrameDropsIt) {
  Start();
  GiveBuffers(0, 64, 20);  // the whole ring
  wires_[0].to_guest = {MakeFrame(3000, 2), MakeFrame(60, 3)};
  wires_[0].Poll();
  EXPECT_EQ(device_->counters(0).rx_dropped, 1u);
  EXPECT_EQ(Received(0), MakeFrame(60, 3));
}

TEST_P(NetTest, Hostile_ControlCommands) {
  Start();
  const auto refused = [&](uint8_t command_class, uint8_t command, const Frame& data) {
    EXPECT_EQ(Command(command_class, command, data), VIRTIO_NET_ERR)
        << int{command_class} << " " << int{command};
  };
  refused(VIRTIO_NET_CTRL_RX, 6, {1});
  refused(VIRTIO_NET_CTRL_RX, 0, {});
  refused(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET,
          {255, 255, 255, 255, 1, 2, 3, 4, 5, 6});
  refused(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, {0, 0, 0, 0});
  refused(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, {1, 2, 3});
  refused(VIRTIO_NET_CTRL_VLAN, 0, {1, 0});
  refused(99, 99, {});
  drivers_[4]->Chain().Readable(Frame{0}).Writable(1).Submit();
  drivers_[4]->Chain().Writable(1).Submit();
  drivers_[4]->Chain().Readable(Frame{0, 0, 1}).Submit();  // nowhere to answer
  Kick(4);
  EXPECT_EQ(drivers_[4]->AllUsed().size(), 3u);
}

TEST_P(NetTest, Hostile_LongMacTablesTurnTheFilterOff) {
  Start();
  GiveBuffers(0, 4, 200);
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, {0}), VIRTIO_NET_OK);
  Frame tables = {65, 0, 0, 0};
  tables.resize(4 + 65 * 6 + 4);
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables), VIRTIO_NET_OK);
  wires_[0].to_guest = {MakeFrame(60, 1, {2, 8, 8, 8, 8, 8}), MakeFrame(60, 1, {1, 8, 8, 8, 8, 8})};
  wires_[0].Poll();
  EXPECT_EQ(device_->counters(0).rx_frames, 1u);
}

// The second pair on a thread of its own: queues are handed over and come back whole, also when
// frames are on their way.
TEST_P(NetTest, PairsRunOnThreadsOfTheirOwn) {
  std::vector<std::unique_ptr<PacketPort>> ports;
  for (FakeWire& wire : wires_) ports.push_back(std::make_unique<FakePort>(wire));
  device_ = *NetDevice::Create(
      loop_, std::move(ports),
      DeviceOptions{.mac = kOwnMac, .mtu = 1500, .port_features = kOffloads, .threads = true});
  for (int round = 0; round < 20; ++round) {
    wires_[1].from_guest.clear();
    Start();
    EXPECT_EQ(Command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, {2, 0}), VIRTIO_NET_OK);
    constexpr size_t kFrames = 40;
    for (size_t i = 0; i < kFrames; ++i) {
      for (const size_t queue : {size_t{1}, size_t{3}})
        drivers_[queue]->Chain().Readable(MakeFrame(60, static_cast<uint8_t>(i))).Submit();
    }
    drivers_[3]->Kick();
    Kick(1);
    EXPECT_EQ(drivers_[1]->AllUsed().size(), kFrames);
    size_t used = 0;
    // Half of the rounds end while frames may be on their way.
    const size_t enough = round % 2 == 0 ? kFrames : 1;
    ASSERT_TRUE(loop_.RunUntil([&] {
      used += drivers_[3]->AllUsed().size();
      return used >= enough;
    }));
    size_t stopped = 0;
    for (uint16_t i = 0; i < 5; ++i) {
      started_[i] = false;
      device_->StopQueue(i, [&](virtio::Queue queue) {
        ++stopped;
        EXPECT_EQ(queue.chains_in_flight(), 0u);
      });
    }
    ASSERT_TRUE(loop_.RunUntil([&] { return stopped == 5; }));
    device_->Reset();
    used += drivers_[3]->AllUsed().size();
    EXPECT_EQ(wires_[1].from_guest.size(), used);
    for (auto& driver : drivers_)
      driver = MakeDriver(static_cast<size_t>(&driver - drivers_.data()));
  }
}

// A front-end may pass anything for a kick, what cannot be watched too.
TEST_P(NetTest, Hostile_KicksThatAreFiles) {
  for (const bool threads : {false, true}) {
    std::vector<std::unique_ptr<PacketPort>> ports;
    for (FakeWire& wire : wires_) ports.push_back(std::make_unique<FakePort>(wire));
    device_ = *NetDevice::Create(
        loop_, std::move(ports),
        DeviceOptions{.mac = kOwnMac, .mtu = 1500, .port_features = kOffloads, .threads = threads});
    device_->Configure(device_->info().features);
    for (uint16_t index = 0; index < 4; ++index) {
      if (index % 2 == 0) drivers_[index]->Chain().Writable(500).Submit();
      const auto make = [&] {
        return *virtio::Queue::Create(
            memory_, drivers_[index]->MakeConfig(),
            sys::EventFd::Adopt(*sys::CreateSealedMemfd("no event", 4096)),
            *drivers_[index]->call().Dup());
      };
      const bool threaded = threads && index >= 2;
      EXPECT_EQ(device_->StartQueue(index, make()).has_value(), threaded);
      if (!threaded) {
        // It may try again.
        EXPECT_FALSE(device_->StartQueue(index, make()).has_value());
        continue;
      }
      bool stopped = false;
      device_->StopQueue(index, [&](virtio::Queue queue) {
        stopped = true;
        EXPECT_EQ(queue.chains_in_flight(), 0u);
      });
      ASSERT_TRUE(loop_.RunUntil([&] { return stopped; }));
    }
    EXPECT_FALSE(wires_[0].receiving);
    EXPECT_FALSE(wires_[1].receiving);
    for (auto& driver : drivers_)
      driver = MakeDriver(static_cast<size_t>(&driver - drivers_.data()));
  }
}

TEST_P(NetTest, Hostile_SurplusQueueIsRefused) {
  device_->Configure(device_->info().features & ~FeatureBit(VIRTIO_NET_F_CTRL_VQ));
  EXPECT_FALSE(device_->StartQueue(4, drivers_[4]->MakeQueue()).has_value());
}

}  // namespace
}  // namespace crosvm::devices::net

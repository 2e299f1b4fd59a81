// The console against a driver of ours: one port, and several with the control queues.
#include "devices/console/console_device.h"

#include <gtest/gtest.h>

#include <cstring>

#include "devices/console/console_testing.h"
#include "event/test_loop.h"
#include "virtio/testing/driver.h"
#include "virtio/types.h"

namespace crosvm::devices::console {
namespace {

using testing::FakeSink;
using testing::FakeSource;
using virtio::testing::Driver;
using virtio::testing::Used;

constexpr uint64_t kMultiport = uint64_t{1} << VIRTIO_CONSOLE_F_MULTIPORT;

struct Control {
  uint32_t port = 0;
  uint16_t event = 0;
  uint16_t value = 0;
  std::string text;
  bool operator==(const Control&) const = default;
};

class ConsoleDeviceTest : public ::testing::TestWithParam<bool> {
 protected:
  void Make(size_t ports, bool source = true) {
    sinks_.resize(ports);
    sources_.resize(ports);
    std::vector<std::unique_ptr<Port>> made;
    for (size_t i = 0; i < ports; ++i) {
      made.push_back(std::make_unique<Port>(
          loop_, "port" + std::to_string(i), std::make_unique<FakeSink>(sinks_[i]),
          source ? std::make_unique<FakeSource>(sources_[i]) : nullptr));
    }
    device_ = std::make_unique<ConsoleDevice>(loop_, std::move(made));
    const size_t queues = device_->info().queue_sizes.size();
    for (size_t i = 0; i < queues; ++i) {
      drivers_.emplace_back(
          memory_, virtio::testing::DriverOptions{.size = 256,
                                                  .packed = GetParam(),
                                                  .area = memory::GuestAddr(0x1000 + i * 0x200000),
                                                  .area_size = 0x1f0000});
    }
    positions_.resize(queues);
    running_.resize(queues);
  }
  void Start(uint64_t features = 0) {
    device_->Configure(drivers_[0].features() | features);
    for (uint16_t i = 0; i < drivers_.size(); ++i) StartQueue(i);
    loop_.RunUntilIdle();
  }
  void StartQueue(uint16_t index) {
    ASSERT_TRUE(device_->StartQueue(index, drivers_[index].MakeQueue(nullptr, positions_[index]))
                    .has_value());
    running_[index] = true;
  }
  void StopQueue(uint16_t index) {
    bool stopped = false;
    device_->StopQueue(index, [&](virtio::Queue queue) {
      EXPECT_EQ(queue.chains_in_flight(), 0u);
      positions_[index] = queue.position();
      stopped = true;
    });
    EXPECT_TRUE(stopped);
    running_[index] = false;
  }
  void Stop() {
    for (uint16_t i = 0; i < drivers_.size(); ++i) {
      if (running_[i]) StopQueue(i);
    }
    device_->Reset();
  }
  void Kick(size_t queue) {
    drivers_[queue].Kick();
    loop_.RunUntilIdle();
  }
  void Send(size_t queue, std::string_view text) {
    drivers_[queue].Chain().Readable(text).Submit();
    Kick(queue);
  }
  static std::string Text(const Used& used) {
    return std::string(used.data.begin(), used.data.begin() + used.written);
  }
  void SendControl(uint32_t port, uint16_t event, uint16_t value) {
    drivers_[3]
        .Chain()
        .ReadableStruct(virtio_console_control{.id = port, .event = event, .value = value})
        .Submit();
    Kick(3);
  }
  std::vector<Control> Controls() {
    std::vector<Control> all;
    for (const Used& used : drivers_[2].AllUsed()) {
      virtio_console_control message{};
      EXPECT_GE(used.written, sizeof(message));
      memcpy(&message, used.data.data(), sizeof(message));
      all.push_back({message.id, message.event, message.value, Text(used).substr(sizeof(message))});
    }
    return all;
  }
  void GiveControlBuffers(int count, uint32_t size = 64) {
    for (int i = 0; i < count; ++i) drivers_[2].Chain().Writable(size).Submit();
    Kick(2);
  }
  virtio_console_config Config() {
    virtio_console_config config{};
    // SAFETY: a packed struct of integers.
    device_->ReadConfig(0, {reinterpret_cast<uint8_t*>(&config), sizeof(config)});
    return config;
  }

  event::TestLoop loop_;
  memory::GuestMemory memory_ = Driver::MakeMemory(80 << 20);
  std::vector<FakeSink::State> sinks_;
  std::vector<FakeSource::State> sources_;
  std::vector<Driver> drivers_;
  std::vector<virtio::RingPosition> positions_;
  std::vector<bool> running_;
  std::unique_ptr<ConsoleDevice> device_;
};

INSTANTIATE_TEST_SUITE_P(Formats, ConsoleDeviceTest, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "Packed" : "Split"; });

TEST_P(ConsoleDeviceTest, OnePortHasTwoQueues) {
  Make(1);
  EXPECT_EQ(device_->info().queue_sizes.size(), 2u);
  EXPECT_EQ(device_->info().features & kMultiport, 0u);
  EXPECT_EQ(Config().max_nr_ports, 1u);
}

TEST_P(ConsoleDeviceTest, Transmits) {
  Make(1);
  Start();
  Send(1, "hello ");
  drivers_[1].Chain().Readable("wor").Readable("ld\n").Submit();
  Kick(1);
  EXPECT_EQ(sinks_[0].text, "hello world\n");
  EXPECT_EQ(drivers_[1].AllUsed().size(), 2u);
}

TEST_P(ConsoleDeviceTest, AFullSinkHoldsTheDriverBack) {
  Make(1);
  Start();
  sinks_[0].room = 4;
  drivers_[1].Chain().Readable("123456").Submit();
  drivers_[1].Chain().Readable("789").Submit();
  Kick(1);
  EXPECT_EQ(sinks_[0].text, "1234");
  EXPECT_TRUE(drivers_[1].AllUsed().empty());
  sinks_[0].MakeRoom(3);
  loop_.RunUntilIdle();
  EXPECT_EQ(sinks_[0].text, "1234567");
  EXPECT_EQ(drivers_[1].AllUsed().size(), 1u);
  // A kick in between does not repeat anything.
  Kick(1);
  sinks_[0].MakeRoom(SIZE_MAX);
  loop_.RunUntilIdle();
  EXPECT_EQ(sinks_[0].text, "123456789");
  EXPECT_EQ(drivers_[1].AllUsed().size(), 1u);
}

TEST_P(ConsoleDeviceTest, StopsWithOutputThatDoesNotGoOut) {
  Make(1);
  Start();
  sinks_[0].room = 2;
  Send(1, "abcdef");
  Stop();
  EXPECT_EQ(drivers_[1].AllUsed().size(), 1u);
  // Room that comes later writes nothing, and a new life begins with what is new.
  sinks_[0].MakeRoom(SIZE_MAX);
  Start();
  Send(1, "new");
  EXPECT_EQ(sinks_[0].text, "abnew");
}

TEST_P(ConsoleDeviceTest, IsDestroyedWithOutputThatDoesNotGoOut) {
  Make(1);
  Start();
  sinks_[0].room = 2;
  Send(1, "abcdef");
  device_.reset();
  loop_.RunUntilIdle();
  EXPECT_EQ(sinks_[0].text, "ab");
}

TEST_P(ConsoleDeviceTest, Receives) {
  Make(1);
  Start();
  for (int i = 0; i < 3; ++i) drivers_[0].Chain().Writable(4).Submit();
  Kick(0);
  sources_[0].Type("abcdef");
  const std::vector<Used> used = drivers_[0].AllUsed();
  ASSERT_EQ(used.size(), 2u);
  EXPECT_EQ(Text(used[0]), "abcd");
  EXPECT_EQ(Text(used[1]), "ef");
}

TEST_P(ConsoleDeviceTest, InputWaitsForBuffers) {
  Make(1);
  sources_[0].Type("early ");
  Start();
  sources_[0].Type("bird");
  EXPECT_EQ(sources_[0].pending, "early bird");
  drivers_[0].Chain().Writable(8).Submit();
  Kick(0);
  EXPECT_EQ(sources_[0].pending, "rd");
  drivers_[0].Chain().Writable(8).Submit();
  Kick(0);
  const std::vector<Used> used = drivers_[0].AllUsed();
  ASSERT_EQ(used.size(), 2u);
  EXPECT_EQ(Text(used[0]) + Text(used[1]), "early bird");
  // Stopped, nothing is taken.
  drivers_[0].Chain().Writable(8).Submit();
  StopQueue(0);
  sources_[0].Type("late");
  EXPECT_EQ(sources_[0].pending, "late");
  StartQueue(0);
  EXPECT_EQ(sources_[0].pending, "");
  EXPECT_EQ(Text(drivers_[0].AllUsed().at(0)), "late");
}

TEST_P(ConsoleDeviceTest, Hostile_BuffersWithoutRoom) {
  Make(1);
  Start();
  for (int i = 0; i < 250; ++i) drivers_[0].Chain().Readable("x").Submit();
  drivers_[0].Chain().Writable(8).Submit();
  Kick(0);
  sources_[0].Type("text");
  loop_.RunUntilIdle();
  const std::vector<Used> used = drivers_[0].AllUsed();
  ASSERT_EQ(used.size(), 251u);
  EXPECT_EQ(used[0].written, 0u);
  EXPECT_EQ(Text(used[250]), "text");
}

TEST_P(ConsoleDeviceTest, Hostile_VeryMuchOutputIsTakenInTurns) {
  Make(1);
  Start();
  // The same megabyte of guest memory in 40 chains.
  const memory::GuestAddr buffer = drivers_[1].Allocate(1 << 20);
  for (int i = 0; i < 40; ++i) {
    drivers_[1].Chain().Raw(buffer.value(), 1 << 20, 0).Submit();
  }
  drivers_[1].Kick();
  ASSERT_TRUE(loop_.RunOnce({}).has_value());
  EXPECT_LE(sinks_[0].text.size(), size_t{2} << 20);
  loop_.RunUntilIdle();
  EXPECT_EQ(sinks_[0].text.size(), size_t{40} << 20);
  EXPECT_EQ(drivers_[1].AllUsed().size(), 40u);
}

TEST_P(ConsoleDeviceTest, EmergencyWrite) {
  Make(1);
  const uint8_t character[] = {'!', 0, 0, 0};
  device_->WriteConfig(offsetof(virtio_console_config, emerg_wr), character);
  EXPECT_EQ(sinks_[0].text, "!");
  device_->WriteConfig(0, character);
  device_->WriteConfig(offsetof(virtio_console_config, emerg_wr) + 1, std::span(character, 1));
  EXPECT_EQ(sinks_[0].text, "!");
  EXPECT_EQ(Config().cols, 0);
}

TEST_P(ConsoleDeviceTest, WindowSizeOfOnePort) {
  Make(1);
  Start();
  int changes = 0;
  device_->set_config_changed([&] { ++changes; });
  ASSERT_TRUE(
      device_->HandleControl(SetWindowSize{.port = 0, .columns = 80, .rows = 25}).has_value());
  EXPECT_EQ(changes, 1);
  EXPECT_EQ(Config().cols, 80);
  EXPECT_EQ(Config().rows, 25);
  EXPECT_FALSE(device_->HandleControl(SetWindowSize{.port = 1}).has_value());
  EXPECT_FALSE(device_->HandleControl(ResizeDisk{}).has_value());
}

TEST_P(ConsoleDeviceTest, SeveralPortsComeUp) {
  Make(3);
  EXPECT_EQ(device_->info().queue_sizes.size(), 8u);
  EXPECT_EQ(Config().max_nr_ports, 3u);
  ASSERT_TRUE(
      device_->HandleControl(SetWindowSize{.port = 1, .columns = 80, .rows = 25}).has_value());
  Start(kMultiport);
  SendControl(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
  // The messages wait for buffers.
  GiveControlBuffers(3);
  EXPECT_EQ(Controls(), (std::vector<Control>{{0, VIRTIO_CONSOLE_PORT_ADD, 1, ""},
                                              {1, VIRTIO_CONSOLE_PORT_ADD, 1, ""},
                                              {2, VIRTIO_CONSOLE_PORT_ADD, 1, ""}}));
  GiveControlBuffers(10);
  SendControl(1, VIRTIO_CONSOLE_PORT_READY, 1);
  EXPECT_EQ(Controls(),
            (std::vector<Control>{{1, VIRTIO_CONSOLE_CONSOLE_PORT, 1, ""},
                                  {1, VIRTIO_CONSOLE_PORT_NAME, 1, "port1"},
                                  {1, VIRTIO_CONSOLE_PORT_OPEN, 1, ""},
                                  {1, VIRTIO_CONSOLE_RESIZE, 0, std::string("\x50\0\x19\0", 4)}}));
  ASSERT_TRUE(
      device_->HandleControl(SetWindowSize{.port = 2, .columns = 1, .rows = 2}).has_value());
  EXPECT_EQ(Controls(),
            (std::vector<Control>{{2, VIRTIO_CONSOLE_RESIZE, 0, std::string("\1\0\2\0", 4)}}));
  // Ports 0, 1 and 2 transmit by queues 1, 5 and 7.
  Send(1, "zero");
  Send(5, "one");
  Send(7, "two");
  EXPECT_EQ(sinks_[0].text + sinks_[1].text + sinks_[2].text, "zeroonetwo");
  drivers_[6].Chain().Writable(8).Submit();
  Kick(6);
  sources_[2].Type("in");
  EXPECT_EQ(Text(drivers_[6].AllUsed().at(0)), "in");
}

TEST_P(ConsoleDeviceTest, Hostile_ControlMessages) {
  Make(2);
  Start(kMultiport);
  GiveControlBuffers(20);
  SendControl(7, VIRTIO_CONSOLE_PORT_READY, 1);
  SendControl(0xffffffff, VIRTIO_CONSOLE_PORT_READY, 1);
  SendControl(0, VIRTIO_CONSOLE_PORT_READY, 0);
  SendControl(0, VIRTIO_CONSOLE_DEVICE_READY, 0);
  SendControl(0, 999, 1);
  drivers_[3].Chain().Readable("short").Submit();
  drivers_[3].Chain().Writable(8).Submit();
  Kick(3);
  EXPECT_TRUE(Controls().empty());
  EXPECT_EQ(drivers_[3].AllUsed().size(), 7u);
}

TEST_P(ConsoleDeviceTest, Hostile_AFloodOfControlMessagesIsBounded) {
  Make(2);
  Start(kMultiport);
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 250; ++i) {
      drivers_[3]
          .Chain()
          .ReadableStruct(
              virtio_console_control{.id = 1, .event = VIRTIO_CONSOLE_PORT_READY, .value = 1})
          .Submit();
    }
    Kick(3);
    EXPECT_EQ(drivers_[3].AllUsed().size(), 250u);
  }
  GiveControlBuffers(250);
  EXPECT_EQ(Controls().size(), kMaxPorts * 8);
  // A reset forgets what is left.
  SendControl(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
  Stop();
  Start(kMultiport);
  (void)Controls();
  GiveControlBuffers(4);
  EXPECT_TRUE(Controls().empty());
}

TEST_P(ConsoleDeviceTest, Hostile_ControlBuffersThatAreTooSmall) {
  Make(2);
  Start(kMultiport);
  GiveControlBuffers(250, 4);
  SendControl(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
  EXPECT_EQ(drivers_[2].AllUsed().size(), 250u);
  GiveControlBuffers(4);
  EXPECT_EQ(Controls().size(), 2u);
}

TEST_P(ConsoleDeviceTest, ADriverWithoutMultiportHasPortZero) {
  Make(2);
  device_->Configure(drivers_[0].features());
  StartQueue(0);
  StartQueue(1);
  Send(1, "plain");
  EXPECT_EQ(sinks_[0].text, "plain");
  int changes = 0;
  device_->set_config_changed([&] { ++changes; });
  ASSERT_TRUE(
      device_->HandleControl(SetWindowSize{.port = 0, .columns = 80, .rows = 25}).has_value());
  ASSERT_TRUE(
      device_->HandleControl(SetWindowSize{.port = 1, .columns = 9, .rows = 9}).has_value());
  EXPECT_EQ(changes, 1);
}

TEST_P(ConsoleDeviceTest, OutputOnly) {
  Make(1, /*source=*/false);
  Start();
  drivers_[0].Chain().Writable(8).Submit();
  Kick(0);
  EXPECT_TRUE(drivers_[0].AllUsed().empty());
  Stop();
}

}  // namespace
}  // namespace crosvm::devices::console

// A driver of a console with three ports that sends anything on any queue, gives buffers of any
// size, and resets. The input is a list of {queue, operation and length, bytes}.
#include <cstring>

#include "devices/console/console_device.h"
#include "devices/console/console_testing.h"
#include "event/test_loop.h"
#include "virtio/testing/driver.h"
#include "virtio/types.h"

namespace {

using namespace crosvm;
using devices::console::Port;
using devices::console::testing::FakeSink;
using devices::console::testing::FakeSource;
using virtio::testing::Driver;

constexpr size_t kPorts = 3;
constexpr size_t kQueues = 2 * (kPorts + 1);

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const memory::GuestMemory memory = Driver::MakeMemory(4 << 20);
  std::span<const uint8_t> input(data, size);
  if (input.empty()) return 0;
  const bool packed = (input[0] & 1) != 0;
  input = input.subspan(1);

  event::TestLoop loop;
  FakeSink::State sinks[kPorts];
  FakeSource::State sources[kPorts];
  std::vector<std::unique_ptr<Port>> ports;
  for (size_t i = 0; i < kPorts; ++i) {
    ports.push_back(std::make_unique<Port>(loop, "p", std::make_unique<FakeSink>(sinks[i]),
                                           std::make_unique<FakeSource>(sources[i])));
  }
  devices::console::ConsoleDevice device(loop, std::move(ports));
  std::vector<Driver> drivers;
  for (size_t i = 0; i < kQueues; ++i) {
    drivers.emplace_back(
        memory, virtio::testing::DriverOptions{.size = 16,
                                               .packed = packed,
                                               .area = memory::GuestAddr(0x1000 + i * 0x60000),
                                               .area_size = 0x50000});
  }
  const auto start = [&] {
    device.Configure(drivers[0].features() | virtio::FeatureBit(VIRTIO_CONSOLE_F_MULTIPORT));
    for (uint16_t i = 0; i < kQueues; ++i) {
      drivers[i] = Driver(memory, drivers[i].options());
      if (!device.StartQueue(i, drivers[i].MakeQueue())) __builtin_trap();
    }
  };
  const auto stop = [&] {
    for (uint16_t i = 0; i < kQueues; ++i) {
      device.StopQueue(i, [](virtio::Queue queue) {
        if (queue.chains_in_flight() != 0) __builtin_trap();
      });
    }
    device.Reset();
  };
  start();
  while (input.size() >= 2) {
    const size_t queue = input[0] % kQueues;
    const uint8_t operation = input[1] >> 5;
    const size_t length = std::min<size_t>(input[1] & 31, input.size() - 2);
    const std::span<const uint8_t> bytes = input.subspan(2, length);
    input = input.subspan(2 + length);
    if (drivers[queue].outstanding() >= 16) (void)drivers[queue].AllUsed();
    const bool room = drivers[queue].outstanding() < 8;
    switch (operation) {
      case 0:
        if (room && length != 0) drivers[queue].Chain().Readable(bytes).Submit();
        break;
      case 1:
        if (room) drivers[queue].Chain().Writable(static_cast<uint32_t>(length + 1)).Submit();
        break;
      case 2:
        if (drivers[3].outstanding() < 8 && length != 0)
          drivers[3].Chain().Readable(bytes).Writable(4).Submit();
        break;
      case 3:
        sources[queue % kPorts].Type(std::string(bytes.begin(), bytes.end()));
        break;
      case 4:
        sinks[queue % kPorts].MakeRoom(length == 31 ? SIZE_MAX : length);
        break;
      case 5:
        (void)device.HandleControl(devices::SetWindowSize{.port = static_cast<uint32_t>(queue),
                                                          .columns = static_cast<uint16_t>(length),
                                                          .rows = 2});
        break;
      case 6:
        device.WriteConfig(static_cast<uint32_t>(queue), bytes.first(std::min<size_t>(length, 4)));
        break;
      default:
        stop();
        start();
        break;
    }
    for (Driver& driver : drivers) driver.Kick();
    loop.RunUntilIdle();
    for (FakeSource::State& source : sources)
      source.pending.resize(std::min<size_t>(source.pending.size(), 64));
    for (FakeSink::State& sink : sinks) sink.text.clear();
    for (Driver& driver : drivers) (void)driver.AllUsed();
  }
  stop();
  return 0;
}

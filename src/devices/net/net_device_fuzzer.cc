// A driver that sends anything: frames and control commands of any shape, buffers of any size,
// frames of any length from the host. The input is a list of steps.
#include <algorithm>

#include "devices/net/net_device.h"
#include "devices/net/net_wire.h"
#include "devices/net/testing/fake_port.h"
#include "event/test_loop.h"
#include "virtio/testing/driver.h"

namespace {

using namespace crosvm;
using namespace crosvm::devices::net;

struct Input {
  std::span<const uint8_t> left;
  uint8_t Byte() {
    if (left.empty()) return 0;
    const uint8_t byte = left[0];
    left = left.subspan(1);
    return byte;
  }
  std::span<const uint8_t> Bytes(size_t most) {
    const std::span<const uint8_t> bytes = left.first(std::min(most, left.size()));
    left = left.subspan(bytes.size());
    return bytes;
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input{{data, size}};
  static const memory::GuestMemory memory = virtio::testing::Driver::MakeMemory(8 << 20);
  const uint8_t choice = input.Byte();
  event::TestLoop loop;
  testing::FakeWire wires[2];
  std::vector<std::unique_ptr<PacketPort>> ports;
  for (testing::FakeWire& wire : wires) ports.push_back(std::make_unique<testing::FakePort>(wire));
  const std::unique_ptr<NetDevice> made =
      *NetDevice::Create(loop, std::move(ports),
                         {.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .port_features = kGuestOffloads});
  NetDevice& device = *made;
  std::vector<std::unique_ptr<virtio::testing::Driver>> drivers;
  uint64_t features = device.info().features;
  if ((choice & 1) != 0) features &= ~virtio::FeatureBit(VIRTIO_NET_F_MRG_RXBUF);
  if ((choice & 2) != 0) features &= ~kGuestSegmentation;
  device.Configure(features);
  for (uint16_t i = 0; i < 5; ++i) {
    drivers.push_back(std::make_unique<virtio::testing::Driver>(
        memory,
        virtio::testing::DriverOptions{.size = 16,
                                       .packed = (choice & 4) != 0,
                                       .event_idx = (choice & 8) != 0,
                                       .area = memory::GuestAddr(0x1000 + i * uint64_t{0x100000}),
                                       .area_size = 0x100000}));
    if (!device.StartQueue(i, drivers[i]->MakeQueue()).has_value()) __builtin_trap();
  }
  for (int step = 0; step < 64 && !input.left.empty(); ++step) {
    const uint8_t what = input.Byte();
    const size_t index = what % 5;
    virtio::testing::Driver& driver = *drivers[index];
    if ((what & 0x80) != 0) {
      testing::FakeWire& wire = wires[what & 1];
      testing::Frame frame(input.Byte() * 260u);
      const std::span<const uint8_t> start = input.Bytes(20);
      std::copy_n(start.begin(), std::min(start.size(), frame.size()), frame.begin());
      if (!frame.empty()) wire.to_guest.push_back(std::move(frame));
      wire.Poll();
    } else if (driver.outstanding() < 4) {
      virtio::testing::ChainSpec chain = driver.Chain();
      const uint8_t parts = input.Byte();
      for (int part = 0; part < (parts & 3); ++part) {
        const size_t length = input.Byte();
        chain.Readable(input.Bytes(length));
      }
      if ((parts & 4) != 0) chain.Writable(input.Byte() * 16u + 1);
      if ((parts & 7) != 0) {
        chain.Submit();
        driver.Kick();
      }
    }
    loop.RunUntilIdle();
    for (auto& each : drivers) each->AllUsed();
  }
  for (uint16_t i = 0; i < 5; ++i) {
    device.StopQueue(i, [](virtio::Queue queue) {
      if (queue.chains_in_flight() != 0) __builtin_trap();
    });
  }
  device.Reset();
  return 0;
}

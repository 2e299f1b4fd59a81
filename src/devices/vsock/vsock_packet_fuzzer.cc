// A driver that sends any packets in any order while sockets of the host speak, stop reading and
// close. The input is a list of steps.
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "devices/vsock/testing/fake_connector.h"
#include "devices/vsock/vsock_device.h"
#include "event/test_loop.h"
#include "virtio/testing/driver.h"

namespace {

using namespace crosvm;
using namespace crosvm::devices::vsock;
using virtio::testing::Driver;

constexpr uint64_t kCid = 3;

struct Input {
  std::span<const uint8_t> left;
  uint8_t Byte() {
    if (left.empty()) return 0;
    const uint8_t byte = left[0];
    left = left.subspan(1);
    return byte;
  }
  uint32_t Word() {
    return uint32_t{Byte()} | uint32_t{Byte()} << 8 | uint32_t{Byte()} << 16 |
           uint32_t{Byte()} << 24;
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const memory::GuestMemory memory = Driver::MakeMemory(8 << 20);
  Input input{{data, size}};
  const uint8_t choice = input.Byte();
  event::TestLoop loop;
  testing::FakeConnector::Host host;
  host.listening = {0, 1, 2};
  auto device =
      *VsockDevice::Create(loop, kCid, std::make_unique<testing::FakeConnector>(host), {});
  std::vector<Driver> drivers;
  for (uint16_t i = 0; i < 3; ++i) {
    drivers.emplace_back(
        memory, virtio::testing::DriverOptions{.size = 16,
                                               .packed = (choice & 1) != 0,
                                               .event_idx = (choice & 2) != 0,
                                               .area = memory::GuestAddr(0x1000 + i * 0x200000u),
                                               .area_size = 0x1f0000});
  }
  const auto start = [&] {
    for (uint16_t i = 0; i < 3; ++i) {
      drivers[i] = Driver(memory, drivers[i].options());
      if (!device->StartQueue(i, drivers[i].MakeQueue()).has_value()) __builtin_trap();
    }
  };
  const auto stop = [&] {
    for (uint16_t i = 0; i < 3; ++i) {
      device->StopQueue(i, [](virtio::Queue queue) {
        if (queue.chains_in_flight() != 0) __builtin_trap();
      });
    }
    device->Reset();
  };
  start();
  for (int step = 0; step < 200 && !input.left.empty(); ++step) {
    const uint8_t what = input.Byte();
    switch (what & 7) {
      case 0:
      case 1:
      case 2: {
        if (drivers[1].outstanding() > 4) break;
        PacketHeader header;
        header.src_cid = kCid;
        header.dst_cid = kHostCid;
        header.src_port = (what >> 3) & 3u;
        header.dst_port = (what >> 5) & 3u;
        header.type = VIRTIO_VSOCK_TYPE_STREAM;
        header.op = input.Byte() % 9;
        header.flags = input.Byte();
        header.buf_alloc = input.Byte() * 257u;
        header.fwd_cnt = input.Byte();
        const std::string payload(input.Byte() * 64u, 'p');
        header.len = static_cast<uint32_t>(payload.size());
        if ((what & 7) == 2) {
          // Anything anywhere.
          uint8_t bytes[sizeof(header)];
          memcpy(bytes, &header, sizeof(header));
          bytes[input.Byte() % sizeof(bytes)] = input.Byte();
          memcpy(&header, bytes, sizeof(header));
        }
        auto chain = drivers[1].Chain();
        chain.ReadableStruct(header);
        if (!payload.empty()) chain.Readable(payload);
        chain.Submit();
        break;
      }
      case 3:
        if (drivers[0].outstanding() < 8)
          drivers[0].Chain().Writable((what >> 3) * 32u + 1).Submit();
        break;
      case 4: {
        auto& sockets = host.accepted[(what >> 3) & 3u];
        if (sockets.empty()) break;
        const std::string text(input.Byte() * 32u + 1, 'h');
        (void)send(sockets.back().fd().get(), text.data(), text.size(),
                   MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
      }
      case 5: {
        auto& sockets = host.accepted[(what >> 3) & 3u];
        if (sockets.empty()) break;
        const uint8_t how = what >> 5;
        if (how == 0) sockets.pop_back();
        if (how == 1) (void)shutdown(sockets.back().fd().get(), SHUT_WR);
        if (how == 2) (void)shutdown(sockets.back().fd().get(), SHUT_RD);
        if (how >= 3) {
          char sink[8192];
          (void)recv(sockets.back().fd().get(), sink, sizeof(sink), MSG_DONTWAIT);
        }
        break;
      }
      case 6:
        if ((what >> 3) == 0) {
          stop();
          start();
        } else if ((what >> 3) < 8) {
          loop.AdvanceTime(std::chrono::seconds(what >> 3));
        } else {
          host.busy = what >> 5;
        }
        break;
      default:
        if (drivers[2].outstanding() < 4) drivers[2].Chain().Writable((what >> 3) + 1u).Submit();
        break;
    }
    for (Driver& driver : drivers) driver.Kick();
    loop.RunUntilIdle();
    if (device->streams().size() > kMaxStreams) __builtin_trap();
    for (Driver& driver : drivers) (void)driver.AllUsed();
  }
  stop();
  return 0;
}

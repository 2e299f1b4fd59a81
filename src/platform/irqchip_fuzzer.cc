// A guest and devices that do anything to the user-space interrupt chips.
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "event/test_loop.h"
#include "platform/split_irqchip.h"

namespace {

struct NullOutput : crosvm::platform::IoapicOutput {
  void Route(uint32_t, const crosvm::hypervisor::MsiMessage&) override {}
  void Deliver(uint32_t pin, const crosvm::hypervisor::MsiMessage& message) override {
    CHECK(pin < 24 && (message.address >> 20) == 0xfee);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace crosvm;
  event::TestLoop loop;
  platform::SplitIrqChip chip(loop, std::make_unique<NullOutput>(), [] {},
                              {.clock = [&loop] { return loop.Now(); }});
  bus::Bus ports("ports");
  bus::Bus mmio("MMIO");
  CHECK(chip.Insert(ports, mmio, 0).has_value());
  const auto level = chip.MakeLevelLine(hypervisor::Gsi(5));
  const auto edge = chip.MakeEdgeLine(hypervisor::Gsi(12));
  constexpr uint64_t kPorts[] = {0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1,
                                 0x40, 0x41, 0x42, 0x43, 0x61};
  if (size > 3000) size = 3000;
  for (size_t i = 0; i + 4 <= size; i += 4) {
    uint8_t bytes[8] = {data[i + 2], data[i + 3], data[i]};
    const uint64_t port = kPorts[data[i + 1] % std::size(kPorts)];
    switch (data[i] % 10) {
      case 0:
      case 1:
        ports.Write(port, {bytes, 1});
        break;
      case 2:
        ports.Read(port, {bytes, 1 + data[i + 2] % 4u});
        break;
      case 3:
        ports.Write(port, {bytes, 1 + data[i + 2] % 4u});
        break;
      case 4:
        mmio.Write(data[i + 1] % 2 == 0 ? 0 : 0x10, {bytes, 4});
        break;
      case 5:
        mmio.Write(data[i + 1], {bytes, 1 + data[i + 2] % 8u});
        break;
      case 6:
        mmio.Read(data[i + 1], {bytes, 1 + data[i + 2] % 8u});
        break;
      case 7:
        if (data[i + 1] % 3 == 0) level->Raise();
        if (data[i + 1] % 3 == 1) level->Lower();
        if (data[i + 1] % 3 == 2) edge->Raise();
        break;
      case 8:
        chip.pic().Acknowledge();
        chip.ioapic().EndOfInterrupt(data[i + 1]);
        break;
      default:
        loop.AdvanceTime(std::chrono::microseconds(data[i + 1] * 10));
        break;
    }
  }
  return 0;
}

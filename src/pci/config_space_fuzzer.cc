// The guest's accesses to configuration space, through both mechanisms, on a root with two
// functions: BARs are moved, sized, overlapped; MSI-X and command bits change. The buses must stay
// consistent with what is decoded.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "base/log.h"
#include "event/event_loop.h"
#include "event/test_loop.h"
#include "hypervisor/fake/fake_vm.h"
#include "pci/config_access.h"
#include "pci/root.h"

namespace crosvm::pci {
namespace {

class FuzzFunction final : public Function, public std::enable_shared_from_this<FuzzFunction> {
 public:
  FuzzFunction(const InterruptContext& context, uint16_t id)
      : Function("fuzz", {.vendor = 0x1af4, .device = id}) {
    interrupts_ = Interrupts::Create(
                      context, {.name = "fuzz", .vectors = 4, .isr_bits = {1, 2}, .intx = nullptr})
                      .value();
    CHECK(config().AddBar(0, {.kind = BarKind::kMemory32, .size = 0x1000}).has_value());
    CHECK(config().AddBar(1, {.kind = BarKind::kIo, .size = 0x20}).has_value());
    CHECK(config().AddBar(2, {.kind = BarKind::kMemory64, .size = 0x10'0000}).has_value());
    CHECK(AddMsix(interrupts_, 0, 0, 0x800).has_value());
  }
  void OnBarMoved(uint8_t bar, std::optional<uint64_t> base) override {
    CHECK(!base || config().Decoded(bar).has_value());
    CHECK(mapped_[bar] != base.has_value());
    mapped_[bar] = base.has_value();
  }
  Interrupts& interrupts() { return *interrupts_; }

 private:
  std::shared_ptr<Interrupts> interrupts_;
  std::array<bool, kBarCount> mapped_{};
};

void Run(std::span<const uint8_t> input) {
  hypervisor::FakeVm vm;
  event::TestLoop loop;
  hypervisor::IrqRouter router(vm, {}, hypervisor::Gsi(24));
  bus::Bus mmio("MMIO");
  bus::Bus io("I/O ports");
  const auto root = std::make_shared<Root>(
      mmio, io,
      Windows{.memory = {{0xd000'0000, 0x1000'0000}, {0x1'0000'0000, 0x10'0000'0000}},
              .io = {{0xc000, 0x1000}}});
  const InterruptContext context{.vm = vm, .router = router, .loop = loop};
  std::array<std::shared_ptr<FuzzFunction>, 2> functions;
  CHECK(root->Add(Address::FromBits(0), MakeHostBridge()).has_value());
  for (uint16_t i = 0; i < 2; ++i) {
    functions[i] = std::make_shared<FuzzFunction>(context, i);
    CHECK(root->Add(Address::FromBits(static_cast<uint16_t>(8 + i)), functions[i]).has_value());
  }
  Mechanism1 ports(root);
  Ecam ecam(root);
  while (input.size() >= 12) {
    const uint8_t kind = input[0];
    const size_t width = size_t{1} << (input[1] % 4);
    const uint64_t where = input[2] | (uint64_t{input[3]} << 8);
    std::array<uint8_t, 8> data;
    std::copy_n(input.begin() + 4, 8, data.begin());
    input = input.subspan(12);
    const std::span<uint8_t> access = std::span(data).first(width);
    switch (kind % 8) {
      case 0:
        if (where % 8 + width <= 8) ports.Write(where % 8, access);
        break;
      case 1:
        if (where % 8 + width <= 8) ports.Read(where % 8, access);
        break;
      case 2:
        ecam.Write(0x8000 + where % 0x2000, access);
        break;
      case 3:
        ecam.Read(0x8000 + where % 0x2000, access);
        break;
      case 4:
        functions[where % 2]->interrupts().WriteTable(where / 2 % 80, access);
        break;
      case 5:
        functions[where % 2]->interrupts().SetVector(where / 2 % 2, data[0]);
        functions[where % 2]->interrupts().ReadPending(where / 4, access);
        break;
      case 6:
        functions[where % 2]->interrupts().call(where / 2 % 2).Signal();
        break;
      default:
        loop.RunUntilIdle();
    }
  }
  for (const auto& function : functions) {
    for (uint8_t bar = 0; bar < kBarCount; ++bar) {
      const std::optional<uint64_t> base = function->config().Decoded(bar);
      if (!base) continue;
      std::array<uint8_t, 1> byte{};
      (void)(bar == 1 ? io : mmio).Read(*base, byte);
    }
  }
  loop.RunUntilIdle();
}

}  // namespace
}  // namespace crosvm::pci

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Warnings of refused interrupts would drown the fuzzer's output.
  static const bool quiet = crosvm::SetLogFilter("error").has_value();
  CHECK(quiet);
  crosvm::pci::Run({data, size});
  return 0;
}

#include "vm/interrupts.h"

#include "arch/x86_64/machine.h"
#include "platform/ioapic.h"
#include "platform/irq_lines.h"

namespace crosvm::vm {

using hypervisor::Gsi;
using x86_64::IrqChipMode;

Result<std::unique_ptr<Interrupts>> Interrupts::Create(event::EventLoop& loop,
                                                       hypervisor::ArchVm& vm, bool split,
                                                       bus::Bus& io_bus, bus::Bus& mmio_bus) {
  std::unique_ptr<Interrupts> self(new Interrupts(vm));
  const IrqChipMode mode = split ? IrqChipMode::kSplit : IrqChipMode::kKernel;
  // In user space the IOAPIC's pins are the router's first MSIs.
  const Gsi first_msi = split ? Gsi(0) : x86_64::FirstMsiGsi(mode);
  self->router_ =
      std::make_unique<hypervisor::IrqRouter>(vm, x86_64::BaseIrqRoutes(mode), first_msi);
  TRY(self->router_->Start());
  if (split) {
    auto output =
        TRY(platform::KvmIoapicOutput::Create(vm, *self->router_, x86_64::kSplitIoApicPins));
    self->split_ = std::make_unique<platform::SplitIrqChip>(
        loop, std::move(output),
        [raw = self.get()] {
          if (hypervisor::Vcpu* const vcpu = raw->boot_vcpu_.load()) vcpu->Kick();
        },
        platform::SplitIrqChipOptions{.pins = x86_64::kSplitIoApicPins});
    TRY(self->split_->Insert(io_bus, mmio_bus, x86_64::kIoApicBase));
  }
  for (uint32_t i = 0; i < x86_64::kIntxLines; ++i) {
    self->intx_[i] = std::make_unique<pci::SharedLine>(self->LevelLine(x86_64::kFirstIntx + i));
  }
  return self;
}

Interrupts::~Interrupts() = default;

Result<std::shared_ptr<bus::InterruptLine>> Interrupts::EdgeLine(uint32_t gsi) {
  if (split_) return split_->MakeEdgeLine(Gsi(gsi));
  return TRY(platform::IrqFdLine::Create(vm_, Gsi(gsi)));
}

std::shared_ptr<bus::InterruptLine> Interrupts::LevelLine(uint32_t gsi) {
  if (split_) return split_->MakeLevelLine(Gsi(gsi));
  return std::make_shared<pci::VmInterruptLine>(vm_, Gsi(gsi));
}

std::unique_ptr<bus::InterruptLine> Interrupts::Intx(uint8_t slot, uint8_t pin) {
  return intx_[x86_64::IntxGsi(slot, pin) - x86_64::kFirstIntx]->Connect();
}

bool Interrupts::PicRequests() {
  return split_->pic().pending();
}

std::optional<uint8_t> Interrupts::AcknowledgePic() {
  return split_->pic().Acknowledge();
}

void Interrupts::IoapicEoi(uint8_t vector) {
  split_->ioapic().EndOfInterrupt(vector);
}

}  // namespace crosvm::vm

// The machine's interrupt wires, over the in-kernel chips or over the user-space ones
// (--split-irqchip).
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "arch/x86_64/layout.h"
#include "base/result.h"
#include "bus/bus.h"
#include "bus/interrupt_line.h"
#include "event/event_loop.h"
#include "hypervisor/arch.h"
#include "hypervisor/irq_routing.h"
#include "pci/intx.h"
#include "platform/split_irqchip.h"
#include "vm/vcpu_threads.h"

namespace crosvm::vm {

// Made and destroyed on the main thread; the VM and the loop outlive it, and it outlives the buses'
// users.
class Interrupts final : public UserIrqChip {
 public:
  static Result<std::unique_ptr<Interrupts>> Create(event::EventLoop& loop, hypervisor::ArchVm& vm,
                                                    bool split, bus::Bus& io_bus,
                                                    bus::Bus& mmio_bus);
  ~Interrupts() override;

  hypervisor::IrqRouter& router() { return *router_; }
  // Null unless the chips are in user space.
  UserIrqChip* user_chip() { return split_ ? this : nullptr; }

  Result<std::shared_ptr<bus::InterruptLine>> EdgeLine(uint32_t gsi);
  std::shared_ptr<bus::InterruptLine> LevelLine(uint32_t gsi);
  // The end of the PCI interrupt wire of `pin` (0: INTA) of a slot.
  std::unique_ptr<bus::InterruptLine> Intx(uint8_t slot, uint8_t pin);

  // The boot CPU, which is kicked when the 8259 pair has an interrupt for it.
  void SetBootVcpu(hypervisor::Vcpu* vcpu) { boot_vcpu_.store(vcpu); }

  bool PicRequests() override;
  std::optional<uint8_t> AcknowledgePic() override;
  void IoapicEoi(uint8_t vector) override;

 private:
  explicit Interrupts(hypervisor::ArchVm& vm) : vm_(vm) {}

  hypervisor::ArchVm& vm_;
  std::unique_ptr<hypervisor::IrqRouter> router_;
  std::unique_ptr<platform::SplitIrqChip> split_;
  std::array<std::unique_ptr<pci::SharedLine>, x86_64::kIntxLines> intx_;
  std::atomic<hypervisor::Vcpu*> boot_vcpu_{nullptr};
};

}  // namespace crosvm::vm

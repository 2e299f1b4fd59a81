// The VM-wide hardware that KVM itself provides: its private pages, interrupt controllers, timer,
// and the routes to them. Used by vm/ once, right after the VM was made.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "hypervisor/irq_routing.h"
#include "hypervisor/vm_x86_64.h"

namespace crosvm::x86_64 {

enum class IrqChipMode : uint8_t {
  kKernel,  // PIC, IOAPIC (24 pins), PIT and local APICs in the kernel
  kSplit,   // local APICs alone; the rest in user space (120 IOAPIC pins)
};

// Before any vCPU. `vcpu_count` decides whether 32-bit APIC ids are needed.
Status PrepareVm(hypervisor::VmX86_64& vm, IrqChipMode mode, uint32_t vcpu_count);

// The fixed routes for IrqRouter's `base`. Kernel: GSIs 0-15 to PIC and IOAPIC, 16-23 to the
// IOAPIC. Split: none; platform/'s IOAPIC owns GSIs below kSplitIoApicPins.
std::vector<hypervisor::IrqRoute> BaseIrqRoutes(IrqChipMode mode);
hypervisor::Gsi FirstMsiGsi(IrqChipMode mode);

}  // namespace crosvm::x86_64

// The x86-only half of a Vm: interrupt chips, timers, CPUID, clock. Used by arch/x86_64 and
// snapshots. The kernel's own structs are the interface; they need no translation.
#pragma once

#include <memory>
#include <vector>

#include "hypervisor/vcpu_x86_64.h"
#include "hypervisor/vm.h"
#include "sys/linux_kvm.h"

namespace crosvm::hypervisor {

class VmX86_64 : public Vm {
 public:
  // Three pages below 4 GiB that Intel hosts need for real mode; before any vCPU. Not RAM, not
  // shown in e820.
  virtual Status SetTssAddress(uint64_t guest_address) = 0;
  // One page, likewise. Default is right behind the TSS pages.
  virtual Status SetIdentityMapAddress(uint64_t guest_address) = 0;

  // PIC, IOAPIC (24 pins) and local APICs in the kernel; before any vCPU.
  virtual Status CreateIrqChip() = 0;
  // The in-kernel 8254; needs CreateIrqChip(). `flags`: KVM_PIT_SPEAKER_DUMMY or 0.
  virtual Status CreatePit(uint32_t flags) = 0;
  // Local APICs in the kernel, PIC and IOAPIC in user space, with `ioapic_pins` GSIs reserved for
  // it; before any vCPU.
  virtual Status EnableSplitIrqChip(uint32_t ioapic_pins) = 0;
  // 32-bit destination ids in MSIs and APIC state: for more than 255 vCPUs.
  virtual Status EnableX2ApicIds() = 0;
  // Lets the guest run HLT, MWAIT, … natively: a mask of KVM_X86_DISABLE_EXITS_*. Costs a host CPU
  // per vCPU; before any vCPU.
  virtual Status DisableExits(uint32_t mask) = 0;

  // What the host's KVM can show to a guest.
  virtual Result<std::vector<kvm_cpuid_entry2>> GetSupportedCpuid() const = 0;
  // The MSRs that make up a vCPU's state.
  virtual Result<std::vector<uint32_t>> GetMsrIndexList() const = 0;
  // KVM_CHECK_EXTENSION: 0 when the host lacks `capability` (KVM_CAP_*).
  virtual int CheckCapability(int capability) const = 0;

  virtual Result<kvm_clock_data> GetClock() const = 0;
  virtual Status SetClock(const kvm_clock_data& clock) = 0;
  // State of one in-kernel chip: `chip` is kPicPrimary, kPicSecondary or kIoapic.
  virtual Result<kvm_irqchip> GetIrqChip(IrqChipId chip) const = 0;
  virtual Status SetIrqChip(const kvm_irqchip& state) = 0;
  virtual Result<kvm_pit_state2> GetPit() const = 0;
  virtual Status SetPit(const kvm_pit_state2& state) = 0;

  // As CreateVcpu(), with the x86 interface.
  virtual Result<std::unique_ptr<VcpuX86_64>> CreateVcpuX86_64(VcpuId id) = 0;
  Result<std::unique_ptr<Vcpu>> CreateVcpu(VcpuId id) final;
};

}  // namespace crosvm::hypervisor

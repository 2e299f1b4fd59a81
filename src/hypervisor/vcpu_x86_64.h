// The x86-only half of a Vcpu: registers and the rest of its state, in the kernel's own structs.
// Used on the vCPU's thread, or before that thread starts.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "hypervisor/vcpu.h"
#include "sys/linux_kvm.h"

namespace crosvm::hypervisor {

class VcpuX86_64 : public Vcpu {
 public:
  // Before the first Run(). At most KVM's limit (256) entries.
  virtual Status SetCpuid(std::span<const kvm_cpuid_entry2> entries) = 0;

  virtual Result<kvm_regs> GetRegs() const = 0;
  virtual Status SetRegs(const kvm_regs& regs) = 0;
  virtual Result<kvm_sregs> GetSregs() const = 0;
  virtual Status SetSregs(const kvm_sregs& sregs) = 0;
  virtual Result<kvm_fpu> GetFpu() const = 0;
  virtual Status SetFpu(const kvm_fpu& fpu) = 0;
  virtual Result<kvm_lapic_state> GetLapic() const = 0;
  virtual Status SetLapic(const kvm_lapic_state& lapic) = 0;

  // One entry for each index, in order. Fails with the first index that KVM refuses in the text
  // (kUnsupported).
  virtual Result<std::vector<kvm_msr_entry>> GetMsrs(std::span<const uint32_t> indices) const = 0;
  // Sets in order; those before a refused one are set.
  virtual Status SetMsrs(std::span<const kvm_msr_entry> msrs) = 0;

  virtual Result<kvm_mp_state> GetMpState() const = 0;
  virtual Status SetMpState(const kvm_mp_state& state) = 0;
  virtual Result<kvm_vcpu_events> GetVcpuEvents() const = 0;
  virtual Status SetVcpuEvents(const kvm_vcpu_events& events) = 0;
  virtual Result<kvm_debugregs> GetDebugRegs() const = 0;
  virtual Status SetDebugRegs(const kvm_debugregs& regs) = 0;
  virtual Result<kvm_xcrs> GetXcrs() const = 0;
  virtual Status SetXcrs(const kvm_xcrs& xcrs) = 0;
  // The XSAVE area; its size is the host's (4096 or more).
  virtual Result<std::vector<uint8_t>> GetXsave() const = 0;
  virtual Status SetXsave(std::span<const uint8_t> area) = 0;

  // Frequency of the guest's TSC; 0 when the host does not know.
  virtual Result<uint32_t> GetTscKhz() const = 0;
  virtual Status SetTscKhz(uint32_t khz) = 0;

  // Breakpoints and single step of a debugger; `control` 0 turns them off.
  virtual Status SetGuestDebug(const kvm_guest_debug& debug) = 0;
  // A guest-linear address through the guest's page tables; kNotFound when it is not mapped.
  virtual Result<uint64_t> Translate(uint64_t linear_address) const = 0;
  virtual Status InjectNmi() = 0;
};

}  // namespace crosvm::hypervisor

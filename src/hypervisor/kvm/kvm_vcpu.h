// Vcpu on KVM: a descriptor and a page shared with the kernel. Made by KvmVm.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <vector>

#include "hypervisor/arch.h"
#include "sys/fd.h"
#include "sys/linux_kvm.h"
#include "sys/mapped_region.h"

namespace crosvm::hypervisor {

class KvmVcpu final : public ArchVcpu {
 public:
  // `run_size` is the kernel's; `xsave_size` what KVM_CAP_XSAVE2 says, 0 where it is not known.
  static Result<std::unique_ptr<KvmVcpu>> Create(sys::UniqueFd fd, VcpuId id, size_t run_size,
                                                 int xsave_size);

  VcpuId id() const override { return id_; }
  Result<VcpuExit> Run() override;
  void Kick() override;
  Status BindToThread() override;
  void NotifyPaused() override;
  bool ReadyForInterrupt() const override;
  Status InjectInterrupt(uint8_t vector) override;
  void RequestInterruptWindow(bool on) override;

#if defined(__x86_64__)
  Status SetCpuid(std::span<const kvm_cpuid_entry2> entries) override;
  Result<kvm_regs> GetRegs() const override;
  Status SetRegs(const kvm_regs& regs) override;
  Result<kvm_sregs> GetSregs() const override;
  Status SetSregs(const kvm_sregs& sregs) override;
  Result<kvm_fpu> GetFpu() const override;
  Status SetFpu(const kvm_fpu& fpu) override;
  Result<kvm_lapic_state> GetLapic() const override;
  Status SetLapic(const kvm_lapic_state& lapic) override;
  Result<std::vector<kvm_msr_entry>> GetMsrs(std::span<const uint32_t> indices) const override;
  Status SetMsrs(std::span<const kvm_msr_entry> msrs) override;
  Result<kvm_mp_state> GetMpState() const override;
  Status SetMpState(const kvm_mp_state& state) override;
  Result<kvm_vcpu_events> GetVcpuEvents() const override;
  Status SetVcpuEvents(const kvm_vcpu_events& events) override;
  Result<kvm_debugregs> GetDebugRegs() const override;
  Status SetDebugRegs(const kvm_debugregs& regs) override;
  Result<kvm_xcrs> GetXcrs() const override;
  Status SetXcrs(const kvm_xcrs& xcrs) override;
  Result<std::vector<uint8_t>> GetXsave() const override;
  Status SetXsave(std::span<const uint8_t> area) override;
  Result<uint32_t> GetTscKhz() const override;
  Status SetTscKhz(uint32_t khz) override;
  Status SetGuestDebug(const kvm_guest_debug& debug) override;
  Result<uint64_t> Translate(uint64_t linear_address) const override;
  Status InjectNmi() override;
#endif

 private:
  KvmVcpu(sys::UniqueFd fd, VcpuId id, sys::MappedRegion run, int xsave_size)
      : fd_(std::move(fd)), id_(id), run_(std::move(run)), xsave_size_(xsave_size) {}

  kvm_run* run() const;
  void SetImmediateExit(bool on) const;
  // The exit that the run page describes.
  Result<VcpuExit> Decode() const;
  Result<VcpuExit> DecodePortIo() const;
  ExitInternalError DecodeInternalError() const;

  const sys::UniqueFd fd_;
  const VcpuId id_;
  const sys::MappedRegion run_;
  const int xsave_size_;
  // The thread in Run(), 0 before BindToThread().
  std::atomic<pid_t> thread_{0};
};

}  // namespace crosvm::hypervisor

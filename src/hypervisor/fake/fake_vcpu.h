// A Vcpu without a hypervisor: returns the exits a test pushes, keeps the state it is given.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "base/mutex.h"
#include "hypervisor/arch.h"

namespace crosvm::hypervisor {

class FakeVcpu : public ArchVcpu {
 public:
  explicit FakeVcpu(VcpuId id) : id_(id) {}

  // Run() returns these in order, and blocks for the next or a Kick() when there is none. A span in
  // `exit` points to memory of the test that outlives the Run() after it.
  void Push(VcpuExit exit);

  std::vector<uint8_t> TakeInterrupts();
  void SetReadyForInterrupt(bool ready);
  bool window_requested() const;
  size_t pauses() const;
  size_t nmis() const;

  VcpuId id() const override { return id_; }
  Result<VcpuExit> Run() override;
  void Kick() override;
  Status BindToThread() override { return {}; }
  void NotifyPaused() override;
  bool ReadyForInterrupt() const override;
  Status InjectInterrupt(uint8_t vector) override;
  void RequestInterruptWindow(bool on) override;

#if defined(__x86_64__)
  // Not guarded: for the test's thread, before and after the code under test.
  struct X86State {
    std::vector<kvm_cpuid_entry2> cpuid;
    kvm_regs regs{};
    kvm_sregs sregs{};
    kvm_fpu fpu{};
    kvm_lapic_state lapic{};
    std::map<uint32_t, uint64_t> msrs;  // reading one that is not here fails
    kvm_mp_state mp_state{};
    kvm_vcpu_events events{};
    kvm_debugregs debug_regs{};
    kvm_xcrs xcrs{};
    std::vector<uint8_t> xsave = std::vector<uint8_t>(sizeof(kvm_xsave));
    uint32_t tsc_khz = 0;
    kvm_guest_debug guest_debug{};
  };
  X86State& x86() { return x86_; }

  Status SetCpuid(std::span<const kvm_cpuid_entry2> entries) override;
  Result<kvm_regs> GetRegs() const override { return x86_.regs; }
  Status SetRegs(const kvm_regs& regs) override;
  Result<kvm_sregs> GetSregs() const override { return x86_.sregs; }
  Status SetSregs(const kvm_sregs& sregs) override;
  Result<kvm_fpu> GetFpu() const override { return x86_.fpu; }
  Status SetFpu(const kvm_fpu& fpu) override;
  Result<kvm_lapic_state> GetLapic() const override { return x86_.lapic; }
  Status SetLapic(const kvm_lapic_state& lapic) override;
  Result<std::vector<kvm_msr_entry>> GetMsrs(std::span<const uint32_t> indices) const override;
  Status SetMsrs(std::span<const kvm_msr_entry> msrs) override;
  Result<kvm_mp_state> GetMpState() const override { return x86_.mp_state; }
  Status SetMpState(const kvm_mp_state& state) override;
  Result<kvm_vcpu_events> GetVcpuEvents() const override { return x86_.events; }
  Status SetVcpuEvents(const kvm_vcpu_events& events) override;
  Result<kvm_debugregs> GetDebugRegs() const override { return x86_.debug_regs; }
  Status SetDebugRegs(const kvm_debugregs& regs) override;
  Result<kvm_xcrs> GetXcrs() const override { return x86_.xcrs; }
  Status SetXcrs(const kvm_xcrs& xcrs) override;
  Result<std::vector<uint8_t>> GetXsave() const override { return x86_.xsave; }
  Status SetXsave(std::span<const uint8_t> area) override;
  Result<uint32_t> GetTscKhz() const override { return x86_.tsc_khz; }
  Status SetTscKhz(uint32_t khz) override;
  Status SetGuestDebug(const kvm_guest_debug& debug) override;
  // Identity.
  Result<uint64_t> Translate(uint64_t linear_address) const override { return linear_address; }
  Status InjectNmi() override;
#endif

 private:
  const VcpuId id_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<VcpuExit> exits_ CROSVM_GUARDED_BY(mutex_);
  bool kicked_ CROSVM_GUARDED_BY(mutex_) = false;
  bool ready_ CROSVM_GUARDED_BY(mutex_) = true;
  bool window_requested_ CROSVM_GUARDED_BY(mutex_) = false;
  size_t pauses_ CROSVM_GUARDED_BY(mutex_) = 0;
  size_t nmis_ CROSVM_GUARDED_BY(mutex_) = 0;
  std::vector<uint8_t> interrupts_ CROSVM_GUARDED_BY(mutex_);
#if defined(__x86_64__)
  X86State x86_;
#endif
};

}  // namespace crosvm::hypervisor

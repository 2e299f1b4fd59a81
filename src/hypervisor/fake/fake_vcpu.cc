#include "hypervisor/fake/fake_vcpu.h"

#include <utility>

namespace crosvm::hypervisor {

void FakeVcpu::Push(VcpuExit exit) {
  const MutexLock lock(mutex_);
  exits_.push_back(std::move(exit));
  changed_.NotifyAll();
}

std::vector<uint8_t> FakeVcpu::TakeInterrupts() {
  const MutexLock lock(mutex_);
  return std::exchange(interrupts_, {});
}

void FakeVcpu::SetReadyForInterrupt(bool ready) {
  const MutexLock lock(mutex_);
  ready_ = ready;
}

bool FakeVcpu::window_requested() const {
  const MutexLock lock(mutex_);
  return window_requested_;
}

size_t FakeVcpu::pauses() const {
  const MutexLock lock(mutex_);
  return pauses_;
}

size_t FakeVcpu::nmis() const {
  const MutexLock lock(mutex_);
  return nmis_;
}

Result<VcpuExit> FakeVcpu::Run() {
  const MutexLock lock(mutex_);
  while (!kicked_ && exits_.empty()) changed_.Wait(mutex_);
  if (std::exchange(kicked_, false)) return ExitInterrupted{};
  VcpuExit exit = std::move(exits_.front());
  exits_.pop_front();
  return exit;
}

void FakeVcpu::Kick() {
  const MutexLock lock(mutex_);
  kicked_ = true;
  changed_.NotifyAll();
}

void FakeVcpu::NotifyPaused() {
  const MutexLock lock(mutex_);
  ++pauses_;
}

bool FakeVcpu::ReadyForInterrupt() const {
  const MutexLock lock(mutex_);
  return ready_;
}

Status FakeVcpu::InjectInterrupt(uint8_t vector) {
  const MutexLock lock(mutex_);
  interrupts_.push_back(vector);
  return {};
}

void FakeVcpu::RequestInterruptWindow(bool on) {
  const MutexLock lock(mutex_);
  window_requested_ = on;
}

#if defined(__x86_64__)

Status FakeVcpu::SetCpuid(std::span<const kvm_cpuid_entry2> entries) {
  x86_.cpuid.assign(entries.begin(), entries.end());
  return {};
}
Status FakeVcpu::SetRegs(const kvm_regs& regs) {
  x86_.regs = regs;
  return {};
}
Status FakeVcpu::SetSregs(const kvm_sregs& sregs) {
  x86_.sregs = sregs;
  return {};
}
Status FakeVcpu::SetFpu(const kvm_fpu& fpu) {
  x86_.fpu = fpu;
  return {};
}
Status FakeVcpu::SetLapic(const kvm_lapic_state& lapic) {
  x86_.lapic = lapic;
  return {};
}

Result<std::vector<kvm_msr_entry>> FakeVcpu::GetMsrs(std::span<const uint32_t> indices) const {
  std::vector<kvm_msr_entry> result;
  for (const uint32_t index : indices) {
    const auto it = x86_.msrs.find(index);
    if (it == x86_.msrs.end()) {
      return Fail(ErrorKind::kUnsupported, "the fake vCPU has no MSR {:#x}", index);
    }
    result.push_back({.index = index, .reserved = 0, .data = it->second});
  }
  return result;
}

Status FakeVcpu::SetMsrs(std::span<const kvm_msr_entry> msrs) {
  for (const kvm_msr_entry& msr : msrs) x86_.msrs[msr.index] = msr.data;
  return {};
}

Status FakeVcpu::SetMpState(const kvm_mp_state& state) {
  x86_.mp_state = state;
  return {};
}
Status FakeVcpu::SetVcpuEvents(const kvm_vcpu_events& events) {
  x86_.events = events;
  return {};
}
Status FakeVcpu::SetDebugRegs(const kvm_debugregs& regs) {
  x86_.debug_regs = regs;
  return {};
}
Status FakeVcpu::SetXcrs(const kvm_xcrs& xcrs) {
  x86_.xcrs = xcrs;
  return {};
}
Status FakeVcpu::SetXsave(std::span<const uint8_t> area) {
  x86_.xsave.assign(area.begin(), area.end());
  return {};
}
Status FakeVcpu::SetTscKhz(uint32_t khz) {
  x86_.tsc_khz = khz;
  return {};
}
Status FakeVcpu::SetGuestDebug(const kvm_guest_debug& debug) {
  x86_.guest_debug = debug;
  return {};
}
Status FakeVcpu::InjectNmi() {
  const MutexLock lock(mutex_);
  ++nmis_;
  return {};
}

#endif  // __x86_64__

}  // namespace crosvm::hypervisor

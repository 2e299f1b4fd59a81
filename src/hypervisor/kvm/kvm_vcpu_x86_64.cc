// The x86 half of KvmVcpu: its state, to and from the kernel.
#include <algorithm>
#include <cstring>

#include "hypervisor/kvm/ioctl.h"
#include "hypervisor/kvm/kvm_vcpu.h"

namespace crosvm::hypervisor {
namespace {

constexpr size_t kMaxCpuidEntries = 256;
// More in one call is E2BIG.
constexpr size_t kMaxMsrsPerCall = 256;

using MsrList = kvm::HeaderAndArray<kvm_msrs, kvm_msr_entry>;

}  // namespace

Status KvmVcpu::SetCpuid(std::span<const kvm_cpuid_entry2> entries) {
  if (entries.size() > kMaxCpuidEntries) {
    return Fail(ErrorKind::kInvalidArgument, "{} CPUID entries are too many; KVM takes {}",
                entries.size(), kMaxCpuidEntries);
  }
  kvm::HeaderAndArray<kvm_cpuid2, kvm_cpuid_entry2> list(entries.size());
  list.header()->nent = static_cast<uint32_t>(entries.size());
  std::copy(entries.begin(), entries.end(), list.entries().begin());
  TRY_CONTEXT(kvm::IoctlPtr(fd_, KVM_REQUEST(KVM_SET_CPUID2), list.header()), "vCPU {}",
              id_.value());
  return {};
}

Result<kvm_regs> KvmVcpu::GetRegs() const {
  return kvm::IoctlGet<kvm_regs>(fd_, KVM_REQUEST(KVM_GET_REGS));
}
Status KvmVcpu::SetRegs(const kvm_regs& regs) {
  return kvm::IoctlSet(fd_, KVM_REQUEST(KVM_SET_REGS), regs);
}
Result<kvm_sregs> KvmVcpu::GetSregs() const {
  return kvm::IoctlGet<kvm_sregs>(fd_, KVM_REQUEST(KVM_GET_SREGS));
}
Status KvmVcpu::SetSregs(const kvm_sregs& sregs) {
  return kvm::IoctlSet(fd_, KVM_REQUEST(KVM_SET_SREGS), sregs);
}
Result<kvm_fpu> KvmVcpu::GetFpu() const {
  return kvm::IoctlGet<kvm_fpu>(fd_, KVM_REQUEST(KVM_GET_FPU));
}
Status KvmVcpu::SetFpu(const kvm_fpu& fpu) {
  return kvm::IoctlSet(fd_, KVM_REQUEST(KVM_SET_FPU), fpu);
}
Result<kvm_lapic_state> KvmVcpu::GetLapic() const {
  return kvm::IoctlGet<kvm_lapic_state>(fd_, KVM_REQUEST(KVM_GET_LAPIC));
}
Status KvmVcpu::SetLapic(const kvm_lapic_state& lapic) {
  return kvm::IoctlSet(fd_, KVM_REQUEST(KVM_SET_LAPIC), lapic);
}

Result<std::vector<kvm_msr_entry>> KvmVcpu::GetMsrs(std::span<const uint32_t> indices) const {
  std::vector<kvm_msr_entry> result;
  result.reserve(indices.size());
  while (!indices.empty()) {
    const std::span<const uint32_t> part = indices.first(std::min(indices.size(), kMaxMsrsPerCall));
    MsrList list(part.size());
    list.header()->nmsrs = static_cast<uint32_t>(part.size());
    for (size_t i = 0; i < part.size(); ++i) list.entries()[i].index = part[i];
    // The result is how many it got through before one it refused.
    const int done = TRY(kvm::IoctlPtr(fd_, KVM_REQUEST(KVM_GET_MSRS), list.header()));
    if (static_cast<size_t>(done) < part.size()) {
      return Fail(ErrorKind::kUnsupported, "vCPU {}: KVM does not let MSR {:#x} be read",
                  id_.value(), part[static_cast<size_t>(done)]);
    }
    result.insert(result.end(), list.entries().begin(), list.entries().end());
    indices = indices.subspan(part.size());
  }
  return result;
}

Status KvmVcpu::SetMsrs(std::span<const kvm_msr_entry> msrs) {
  while (!msrs.empty()) {
    const std::span<const kvm_msr_entry> part = msrs.first(std::min(msrs.size(), kMaxMsrsPerCall));
    MsrList list(part.size());
    list.header()->nmsrs = static_cast<uint32_t>(part.size());
    std::copy(part.begin(), part.end(), list.entries().begin());
    const int done = TRY(kvm::IoctlPtr(fd_, KVM_REQUEST(KVM_SET_MSRS), list.header()));
    if (static_cast<size_t>(done) < part.size()) {
      const kvm_msr_entry& refused = part[static_cast<size_t>(done)];
      return Fail(ErrorKind::kUnsupported, "vCPU {}: KVM does not let MSR {:#x} be set to {:#x}",
                  id_.value(), refused.index, refused.data);
    }
    msrs = msrs.subspan(part.size());
  }
  return {};
}

Result<kvm_mp_state> KvmVcpu::GetMpState() const {
  return kvm::IoctlGet<kvm_mp_state>(fd_, KVM_REQUEST(KVM_GET_MP_STATE));
}
Status KvmVcpu::SetMpState(const kvm_mp_state& state) {
  return kvm::IoctlSet(fd_, KVM_REQUEST(KVM_SET_MP_STATE), state);
}
Result<kvm_vcpu_events> KvmVcpu::GetVcpuEvents() const {
  return kvm::IoctlGet<kvm_vcpu_events>(fd_, KVM_REQUEST(KVM_GET_VCPU_EVENTS));
}
Status KvmVcpu::SetVcpuEvents(const kvm_vcpu_events& events) {
  return kvm::IoctlSet(fd_, KVM_REQUEST(KVM_SET_VCPU_EVENTS), events);
}
Result<kvm_debugregs> KvmVcpu::GetDebugRegs() const {
  return kvm::IoctlGet<kvm_debugregs>(fd_, KVM_REQUEST(KVM_GET_DEBUGREGS));
}
Status KvmVcpu::SetDebugRegs(const kvm_debugregs& regs) {
  return kvm::IoctlSet(fd_, KVM_REQUEST(KVM_SET_DEBUGREGS), regs);
}
Result<kvm_xcrs> KvmVcpu::GetXcrs() const {
  return kvm::IoctlGet<kvm_xcrs>(fd_, KVM_REQUEST(KVM_GET_XCRS));
}
Status KvmVcpu::SetXcrs(const kvm_xcrs& xcrs) {
  return kvm::IoctlSet(fd_, KVM_REQUEST(KVM_SET_XCRS), xcrs);
}

Result<std::vector<uint8_t>> KvmVcpu::GetXsave() const {
  std::vector<uint8_t> area(std::max<size_t>(sizeof(kvm_xsave), static_cast<size_t>(xsave_size_)));
  if (xsave_size_ > 0) {
    TRY(kvm::IoctlPtr(fd_, KVM_REQUEST(KVM_GET_XSAVE2), area.data()));
  } else {
    TRY(kvm::IoctlPtr(fd_, KVM_REQUEST(KVM_GET_XSAVE), area.data()));
  }
  return area;
}

Status KvmVcpu::SetXsave(std::span<const uint8_t> area) {
  // The kernel reads as much as its own area has; a shorter one from elsewhere is zero-extended.
  std::vector<uint8_t> copy(std::max<size_t>(sizeof(kvm_xsave), static_cast<size_t>(xsave_size_)));
  if (area.size() > copy.size()) {
    return Fail(ErrorKind::kUnsupported,
                "the saved extended state has {} bytes, this host's CPU holds {}", area.size(),
                copy.size());
  }
  std::copy(area.begin(), area.end(), copy.begin());
  TRY(kvm::IoctlPtr(fd_, KVM_REQUEST(KVM_SET_XSAVE), copy.data()));
  return {};
}

Result<uint32_t> KvmVcpu::GetTscKhz() const {
  const int khz = TRY(kvm::Ioctl(fd_, KVM_REQUEST(KVM_GET_TSC_KHZ)));
  return static_cast<uint32_t>(khz);
}
Status KvmVcpu::SetTscKhz(uint32_t khz) {
  TRY(kvm::Ioctl(fd_, KVM_REQUEST(KVM_SET_TSC_KHZ), khz));
  return {};
}

Status KvmVcpu::SetGuestDebug(const kvm_guest_debug& debug) {
  return kvm::IoctlSet(fd_, KVM_REQUEST(KVM_SET_GUEST_DEBUG), debug);
}

Result<uint64_t> KvmVcpu::Translate(uint64_t linear_address) const {
  kvm_translation translation{};
  translation.linear_address = linear_address;
  TRY(kvm::IoctlPtr(fd_, KVM_REQUEST(KVM_TRANSLATE), &translation));
  if (translation.valid == 0) {
    return Fail(ErrorKind::kNotFound, "guest address {:#x} is not mapped", linear_address);
  }
  return uint64_t{translation.physical_address};
}

Status KvmVcpu::InjectNmi() {
  TRY(kvm::Ioctl(fd_, KVM_REQUEST(KVM_NMI)));
  return {};
}

}  // namespace crosvm::hypervisor

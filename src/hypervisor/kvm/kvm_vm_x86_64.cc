// The x86 half of KvmVm.
#include "hypervisor/kvm/ioctl.h"
#include "hypervisor/kvm/kvm_vcpu.h"
#include "hypervisor/kvm/kvm_vm.h"

namespace crosvm::hypervisor {
namespace {

// Both lists grow with the kernel: asked for with more room until they fit. Today's are far
// smaller.
constexpr size_t kMaxCpuidEntries = 4096;

}  // namespace

Status KvmVm::SetTssAddress(uint64_t guest_address) {
  TRY(kvm::Ioctl(vm_, KVM_REQUEST(KVM_SET_TSS_ADDR), guest_address));
  return {};
}

Status KvmVm::SetIdentityMapAddress(uint64_t guest_address) {
  return kvm::IoctlSet(vm_, KVM_REQUEST(KVM_SET_IDENTITY_MAP_ADDR), __u64{guest_address});
}

Status KvmVm::CreateIrqChip() {
  TRY(kvm::Ioctl(vm_, KVM_REQUEST(KVM_CREATE_IRQCHIP)));
  return {};
}

Status KvmVm::CreatePit(uint32_t flags) {
  kvm_pit_config config{};
  config.flags = flags;
  return kvm::IoctlSet(vm_, KVM_REQUEST(KVM_CREATE_PIT2), config);
}

Status KvmVm::EnableSplitIrqChip(uint32_t ioapic_pins) {
  return EnableCapability(KVM_REQUEST(KVM_CAP_SPLIT_IRQCHIP), ioapic_pins);
}

Status KvmVm::EnableX2ApicIds() {
  return EnableCapability(KVM_REQUEST(KVM_CAP_X2APIC_API),
                          KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
}

Status KvmVm::DisableExits(uint32_t mask) {
  const int possible = CheckCapability(KVM_CAP_X86_DISABLE_EXITS);
  if ((mask & ~static_cast<uint32_t>(possible)) != 0) {
    return Fail(ErrorKind::kUnsupported, "the host allows exits {:#x} to be disabled, not {:#x}",
                possible, mask);
  }
  return EnableCapability(KVM_REQUEST(KVM_CAP_X86_DISABLE_EXITS), mask);
}

Result<std::vector<kvm_cpuid_entry2>> KvmVm::GetSupportedCpuid() const {
  for (size_t room = 256; room <= kMaxCpuidEntries; room *= 2) {
    kvm::HeaderAndArray<kvm_cpuid2, kvm_cpuid_entry2> list(room);
    list.header()->nent = static_cast<uint32_t>(room);
    const Result<int> result =
        kvm::IoctlPtr(system_, KVM_REQUEST(KVM_GET_SUPPORTED_CPUID), list.header());
    if (result) {
      const std::span<kvm_cpuid_entry2> entries =
          list.entries().first(std::min<size_t>(room, list.header()->nent));
      return std::vector<kvm_cpuid_entry2>(entries.begin(), entries.end());
    }
    if (result.error().sys_errno() != E2BIG) return std::unexpected(result.error().Clone());
  }
  return Fail(ErrorKind::kInternal, "the host's CPUID has more than {} entries", kMaxCpuidEntries);
}

Result<std::vector<uint32_t>> KvmVm::GetMsrIndexList() const {
  // With no room the kernel answers E2BIG and the number.
  kvm_msr_list probe{};
  const Result<int> probed = kvm::IoctlPtr(system_, KVM_REQUEST(KVM_GET_MSR_INDEX_LIST), &probe);
  if (!probed && probed.error().sys_errno() != E2BIG) {
    return std::unexpected(probed.error().Clone());
  }
  kvm::HeaderAndArray<kvm_msr_list, uint32_t> list(probe.nmsrs);
  list.header()->nmsrs = probe.nmsrs;
  TRY(kvm::IoctlPtr(system_, KVM_REQUEST(KVM_GET_MSR_INDEX_LIST), list.header()));
  const std::span<uint32_t> indices =
      list.entries().first(std::min(probe.nmsrs, list.header()->nmsrs));
  return std::vector<uint32_t>(indices.begin(), indices.end());
}

int KvmVm::CheckCapability(int capability) const {
  return kvm::Ioctl(vm_, KVM_REQUEST(KVM_CHECK_EXTENSION), static_cast<unsigned long>(capability))
      .value_or(0);
}

Result<kvm_clock_data> KvmVm::GetClock() const {
  return kvm::IoctlGet<kvm_clock_data>(vm_, KVM_REQUEST(KVM_GET_CLOCK));
}

Status KvmVm::SetClock(const kvm_clock_data& clock) {
  return kvm::IoctlSet(vm_, KVM_REQUEST(KVM_SET_CLOCK), clock);
}

Result<kvm_irqchip> KvmVm::GetIrqChip(IrqChipId chip) const {
  if (chip == IrqChipId::kGic) {
    return Fail(ErrorKind::kInvalidArgument, "there is no GIC on x86");
  }
  kvm_irqchip state{};
  state.chip_id = static_cast<uint32_t>(chip);
  return kvm::IoctlGet(vm_, KVM_REQUEST(KVM_GET_IRQCHIP), state);
}

Status KvmVm::SetIrqChip(const kvm_irqchip& state) {
  return kvm::IoctlSet(vm_, KVM_REQUEST(KVM_SET_IRQCHIP), state);
}

Result<kvm_pit_state2> KvmVm::GetPit() const {
  return kvm::IoctlGet<kvm_pit_state2>(vm_, KVM_REQUEST(KVM_GET_PIT2));
}

Status KvmVm::SetPit(const kvm_pit_state2& state) {
  return kvm::IoctlSet(vm_, KVM_REQUEST(KVM_SET_PIT2), state);
}

Result<std::unique_ptr<VcpuX86_64>> KvmVm::CreateVcpuX86_64(VcpuId id) {
  const int raw = TRY_CONTEXT(kvm::Ioctl(vm_, KVM_REQUEST(KVM_CREATE_VCPU), id.value()),
                              "creating vCPU {}", id.value());
  sys::UniqueFd fd(raw);
  const int xsave_size = CheckCapability(KVM_CAP_XSAVE2);
  std::unique_ptr<KvmVcpu> vcpu =
      TRY(KvmVcpu::Create(std::move(fd), id, run_size_, xsave_size > 0 ? xsave_size : 0));
  return std::unique_ptr<VcpuX86_64>(std::move(vcpu));
}

}  // namespace crosvm::hypervisor

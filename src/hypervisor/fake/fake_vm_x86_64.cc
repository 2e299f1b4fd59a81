// The x86 half of FakeVm: remembers what it is told.
#include "hypervisor/fake/fake_vcpu.h"
#include "hypervisor/fake/fake_vm.h"

namespace crosvm::hypervisor {

Status FakeVm::SetTssAddress(uint64_t guest_address) {
  x86_.tss_address = guest_address;
  return {};
}
Status FakeVm::SetIdentityMapAddress(uint64_t guest_address) {
  x86_.identity_map_address = guest_address;
  return {};
}
Status FakeVm::CreateIrqChip() {
  if (x86_.irq_chip || x86_.split_pins) {
    return Fail(ErrorKind::kAlreadyExists, "the VM has an interrupt chip");
  }
  x86_.irq_chip = true;
  return {};
}
Status FakeVm::CreatePit(uint32_t flags) {
  if (!x86_.irq_chip) return Fail(ErrorKind::kNotFound, "the PIT needs the interrupt chip");
  x86_.pit_flags = flags;
  return {};
}
Status FakeVm::EnableSplitIrqChip(uint32_t ioapic_pins) {
  if (x86_.irq_chip || x86_.split_pins) {
    return Fail(ErrorKind::kAlreadyExists, "the VM has an interrupt chip");
  }
  x86_.split_pins = ioapic_pins;
  return {};
}
Status FakeVm::EnableX2ApicIds() {
  x86_.x2apic_ids = true;
  return {};
}
Status FakeVm::DisableExits(uint32_t mask) {
  x86_.disabled_exits = mask;
  return {};
}
Result<std::vector<kvm_cpuid_entry2>> FakeVm::GetSupportedCpuid() const {
  return x86_.supported_cpuid;
}
Result<std::vector<uint32_t>> FakeVm::GetMsrIndexList() const {
  return x86_.msr_indices;
}
int FakeVm::CheckCapability(int capability) const {
  const auto it = x86_.capabilities.find(capability);
  return it == x86_.capabilities.end() ? 0 : it->second;
}
Result<kvm_clock_data> FakeVm::GetClock() const {
  return x86_.clock;
}
Status FakeVm::SetClock(const kvm_clock_data& clock) {
  x86_.clock = clock;
  return {};
}
Result<kvm_irqchip> FakeVm::GetIrqChip(IrqChipId chip) const {
  const auto it = x86_.chips.find(static_cast<uint32_t>(chip));
  if (it != x86_.chips.end()) return it->second;
  kvm_irqchip state{};
  state.chip_id = static_cast<uint32_t>(chip);
  return state;
}
Status FakeVm::SetIrqChip(const kvm_irqchip& state) {
  x86_.chips[state.chip_id] = state;
  return {};
}
Result<kvm_pit_state2> FakeVm::GetPit() const {
  return x86_.pit;
}
Status FakeVm::SetPit(const kvm_pit_state2& state) {
  x86_.pit = state;
  return {};
}
Result<std::unique_ptr<VcpuX86_64>> FakeVm::CreateVcpuX86_64(VcpuId id) {
  return std::unique_ptr<VcpuX86_64>(std::make_unique<FakeVcpu>(id));
}

}  // namespace crosvm::hypervisor

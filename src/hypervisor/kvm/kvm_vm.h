// Vm on KVM. Made by Kvm::CreateVm(). Thread-safe: the kernel serialises, the slot table has a
// mutex.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "hypervisor/arch.h"
#include "sys/fd.h"
#include "sys/linux_kvm.h"

namespace crosvm::hypervisor {

class KvmVm final : public ArchVm {
 public:
  // `system` is a /dev/kvm descriptor, `vm` one of KVM_CREATE_VM, `run_size` the size of a vCPU's
  // shared run page.
  static Result<std::unique_ptr<KvmVm>> Create(sys::UniqueFd system, sys::UniqueFd vm,
                                               size_t run_size);

  Result<MemorySlot> AddMemory(const MemoryMapping& mapping) override;
  Status RemoveMemory(MemorySlot slot) override;
  Status SetDirtyLogging(MemorySlot slot, bool on) override;
  Result<std::vector<uint64_t>> TakeDirtyLog(MemorySlot slot) override;
  Status AddIoEvent(const IoEventAddress& where, const sys::EventFd& event) override;
  Status RemoveIoEvent(const IoEventAddress& where, const sys::EventFd& event) override;
  Status AddIrqFd(Gsi gsi, const sys::EventFd& event, const sys::EventFd* resample) override;
  Status RemoveIrqFd(Gsi gsi, const sys::EventFd& event) override;
  Status SetIrqRoutes(std::span<const IrqRoute> routes) override;
  Status SetIrqLine(Gsi gsi, bool level) override;
  Status SignalMsi(const MsiMessage& message) override;

#if defined(__x86_64__)
  Status SetTssAddress(uint64_t guest_address) override;
  Status SetIdentityMapAddress(uint64_t guest_address) override;
  Status CreateIrqChip() override;
  Status CreatePit(uint32_t flags) override;
  Status EnableSplitIrqChip(uint32_t ioapic_pins) override;
  Status EnableX2ApicIds() override;
  Status DisableExits(uint32_t mask) override;
  Result<std::vector<kvm_cpuid_entry2>> GetSupportedCpuid() const override;
  Result<std::vector<uint32_t>> GetMsrIndexList() const override;
  int CheckCapability(int capability) const override;
  Result<kvm_clock_data> GetClock() const override;
  Status SetClock(const kvm_clock_data& clock) override;
  Result<kvm_irqchip> GetIrqChip(IrqChipId chip) const override;
  Status SetIrqChip(const kvm_irqchip& state) override;
  Result<kvm_pit_state2> GetPit() const override;
  Status SetPit(const kvm_pit_state2& state) override;
  Result<std::unique_ptr<VcpuX86_64>> CreateVcpuX86_64(VcpuId id) override;
#endif

 private:
  KvmVm(sys::UniqueFd system, sys::UniqueFd vm, size_t run_size, uint32_t slot_limit)
      : system_(std::move(system)),
        vm_(std::move(vm)),
        run_size_(run_size),
        slot_limit_(slot_limit) {}

  Status EnableCapability(uint32_t capability, const char* name, uint64_t argument);
  Status IoEvent(const IoEventAddress& where, const sys::EventFd& event, uint32_t flags);

  const sys::UniqueFd system_;
  const sys::UniqueFd vm_;
  const size_t run_size_;
  const uint32_t slot_limit_;

  Mutex mutex_;
  std::map<uint32_t, kvm_userspace_memory_region> slots_ CROSVM_GUARDED_BY(mutex_);
};

}  // namespace crosvm::hypervisor

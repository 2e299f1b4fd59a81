// A Vm without a hypervisor, for tests of everything above: records what it is told and lets the
// test play the guest (ring I/O events, take interrupts). Thread-safe.
//
//   FakeVm vm;
//   …AddIoEvent({.address = 0xd0001000, .length = 2}, kick);
//   vm.WriteIo(0xd0001000, 0);          // as a guest's write: signals kick
//   …AddIrqFd(Gsi(30), call, nullptr);
//   EXPECT_TRUE(vm.TakeIrq(Gsi(30)));   // call was signalled since the last TakeIrq()
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/mutex.h"
#include "hypervisor/arch.h"

namespace crosvm::hypervisor {

class FakeVm : public ArchVm {
 public:
  // --- the guest's side ---

  // Signals each I/O event that such a write rings; returns how many (0: it would leave to user
  // space). `length` 0 stands for the right one.
  size_t WriteIo(uint64_t address, uint64_t value, uint32_t length = 0,
                 AddressSpace space = AddressSpace::kMmio);
  // How often the irqfds of `gsi` were signalled since the last call.
  uint64_t TakeIrq(Gsi gsi);
  // The guest's end of interrupt for a level line: signals the resample events of `gsi`; returns
  // how many.
  size_t EndOfInterrupt(Gsi gsi);

  // --- what was recorded ---

  std::optional<IrqRoute> Route(Gsi gsi) const;
  std::vector<IrqRoute> Routes() const;
  // How often a whole table was handed over.
  size_t route_updates() const;
  bool HasIrqFd(Gsi gsi) const;
  bool HasIoEvent(const IoEventAddress& where) const;
  size_t io_event_count() const;
  bool IrqLine(Gsi gsi) const;
  // Messages of SignalMsi() since the last call.
  std::vector<MsiMessage> TakeMsis();
  std::optional<MemoryMapping> Memory(MemorySlot slot) const;
  size_t memory_count() const;
  // The next TakeDirtyLog(slot) returns this page among others.
  void MarkDirty(MemorySlot slot, uint64_t page);

  // The next call that can fail does, with `kind`.
  void FailNext(ErrorKind kind);

  // --- Vm ---

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
  // What CreateIrqChip() and the like were told.
  struct X86State {
    std::optional<uint64_t> tss_address;
    std::optional<uint64_t> identity_map_address;
    bool irq_chip = false;
    std::optional<uint32_t> pit_flags;
    std::optional<uint32_t> split_pins;
    bool x2apic_ids = false;
    uint32_t disabled_exits = 0;
    kvm_clock_data clock{};
    std::map<uint32_t, kvm_irqchip> chips;
    kvm_pit_state2 pit{};
    std::vector<kvm_cpuid_entry2> supported_cpuid;  // what GetSupportedCpuid() answers
    std::vector<uint32_t> msr_indices;              // what GetMsrIndexList() answers
    std::map<int, int> capabilities;                // what CheckCapability() answers; others 0
  };
  // Not guarded: for the test's thread, before and after the code under test.
  X86State& x86() { return x86_; }

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
  // A FakeVcpu (fake_vcpu.h).
  Result<std::unique_ptr<VcpuX86_64>> CreateVcpuX86_64(VcpuId id) override;
#endif

 private:
  struct IoEvent {
    IoEventAddress where;
    sys::EventFd event;
  };
  struct IrqEvent {
    Gsi gsi;
    sys::EventFd event;
    std::optional<sys::EventFd> resample;
  };
  struct Slot {
    MemoryMapping mapping;
    std::vector<uint64_t> dirty;
  };

  Status TakeFailure() CROSVM_REQUIRES(mutex_);

  mutable Mutex mutex_;
  std::optional<ErrorKind> fail_next_ CROSVM_GUARDED_BY(mutex_);
  std::map<MemorySlot, Slot> slots_ CROSVM_GUARDED_BY(mutex_);
  std::vector<IoEvent> io_events_ CROSVM_GUARDED_BY(mutex_);
  std::vector<IrqEvent> irq_events_ CROSVM_GUARDED_BY(mutex_);
  std::vector<IrqRoute> routes_ CROSVM_GUARDED_BY(mutex_);
  size_t route_updates_ CROSVM_GUARDED_BY(mutex_) = 0;
  std::map<Gsi, bool> lines_ CROSVM_GUARDED_BY(mutex_);
  std::vector<MsiMessage> msis_ CROSVM_GUARDED_BY(mutex_);
#if defined(__x86_64__)
  X86State x86_;
#endif
};

}  // namespace crosvm::hypervisor

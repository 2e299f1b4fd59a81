// A virtual machine of the host's hypervisor, as thin as KVM allows. `kvm/` implements it, `fake/`
// for tests. Thread-safe unless said otherwise. Architecture-specific set-up (CPUID, in-kernel
// chips) is in vm_x86_64.h.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/strong_int.h"
#include "hypervisor/irq_routing.h"
#include "memory/guest_memory.h"
#include "sys/event_fd.h"

namespace crosvm::hypervisor {

struct VcpuIdTag;
using VcpuId = StrongInt<VcpuIdTag, uint32_t>;
struct MemorySlotTag;
using MemorySlot = StrongInt<MemorySlotTag, uint32_t>;

class Vcpu;

enum class AddressSpace : uint8_t { kPortIo, kMmio };

// Where a guest write rings an EventFd instead of leaving to user space.
struct IoEventAddress {
  AddressSpace space = AddressSpace::kMmio;
  uint64_t address = 0;
  uint32_t length = 0;  // 0: a write of any length (and no datamatch)
  std::optional<uint64_t> datamatch;
  auto operator<=>(const IoEventAddress&) const = default;
};

struct MemoryMapping {
  memory::GuestAddr guest;
  uint64_t size = 0;          // page-aligned
  uint64_t host_address = 0;  // a mapping of this process that outlives the slot
  bool read_only = false;     // guest writes leave as MMIO
  bool log_dirty = false;
};

class Vm {
 public:
  virtual ~Vm() = default;

  virtual Result<MemorySlot> AddMemory(const MemoryMapping& mapping) = 0;
  virtual Status RemoveMemory(MemorySlot slot) = 0;
  virtual Status SetDirtyLogging(MemorySlot slot, bool on) = 0;
  // One bit a page written since the last call, and clears the log.
  virtual Result<std::vector<uint64_t>> TakeDirtyLog(MemorySlot slot) = 0;

  // The descriptor is kept by the kernel; the caller may close its own.
  virtual Status AddIoEvent(const IoEventAddress& where, const sys::EventFd& event) = 0;
  virtual Status RemoveIoEvent(const IoEventAddress& where, const sys::EventFd& event) = 0;

  // Signalling `event` raises `gsi`; with `resample`, the line stays up until the guest's EOI,
  // which signals it.
  virtual Status AddIrqFd(Gsi gsi, const sys::EventFd& event, const sys::EventFd* resample) = 0;
  virtual Status RemoveIrqFd(Gsi gsi, const sys::EventFd& event) = 0;
  virtual Status SetIrqRoutes(std::span<const IrqRoute> routes) = 0;
  virtual Status SetIrqLine(Gsi gsi, bool level) = 0;
  virtual Status SignalMsi(const MsiMessage& message) = 0;

  // Called once for each id from 0, before any vCPU runs.
  virtual Result<std::unique_ptr<Vcpu>> CreateVcpu(VcpuId id) = 0;
};

}  // namespace crosvm::hypervisor

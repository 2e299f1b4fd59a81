// One virtual CPU. Used on its own thread, but for Kick().
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>

#include "base/result.h"
#include "hypervisor/vm.h"

namespace crosvm::hypervisor {

// Why Run() came back. The spans point into the shared run page and are valid until the next Run();
// for reads the handler fills them before it.
struct ExitPortIo {
  uint16_t port;
  bool write;
  uint8_t size;             // 1, 2 or 4 bytes an access
  std::span<uint8_t> data;  // `size` bytes for each repetition (string instructions)
};
struct ExitMmio {
  uint64_t address;
  bool write;
  std::span<uint8_t> data;  // 1 to 8 bytes
};
struct ExitHalt {};         // only without in-kernel interrupt controller
struct ExitShutdown {};     // triple fault
struct ExitInterrupted {};  // Kick() or a signal
struct ExitInterruptWindow {};
struct ExitIoapicEoi {
  uint8_t vector;
};
struct ExitSystemEvent {
  uint32_t type;  // KVM_SYSTEM_EVENT_*
};
// A breakpoint or single step asked for by the debugger; the registers are x86's.
struct ExitDebug {
  uint64_t pc = 0;
  uint32_t exception = 0;  // vector: 1 #DB, 3 #BP
  uint64_t dr6 = 0;
  uint64_t dr7 = 0;
};
struct ExitFailEntry {
  uint64_t reason;  // of the processor
};
// The hypervisor cannot go on with this vCPU. `message` says what is known, with the guest's
// instruction bytes where the kernel gives them; the caller logs it.
struct ExitInternalError {
  uint32_t suberror = 0;  // KVM_INTERNAL_ERROR_*
  std::string message;
};
struct ExitUnknown {
  uint32_t reason;
};
using VcpuExit = std::variant<ExitPortIo, ExitMmio, ExitHalt, ExitShutdown, ExitInterrupted,
                              ExitInterruptWindow, ExitIoapicEoi, ExitSystemEvent, ExitDebug,
                              ExitFailEntry, ExitInternalError, ExitUnknown>;

class Vcpu {
 public:
  virtual ~Vcpu() = default;

  virtual VcpuId id() const = 0;

  // Enters the guest. Completes the I/O of the previous exit first. Fails only when the hypervisor
  // itself does.
  virtual Result<VcpuExit> Run() = 0;

  // Makes a current or the next Run() return ExitInterrupted soon. Any thread; no kick is lost
  // (several before one return are one). A Run() that is already inside the guest is only reached
  // once the vCPU's thread has called BindToThread().
  virtual void Kick() = 0;
  // Names the calling thread as the one that runs this vCPU and installs the kick signal
  // (SIGRTMIN).
  virtual Status BindToThread() = 0;

  // Tells the guest's clock that it was stopped (KVM_KVMCLOCK_CTRL); ignored when the guest has
  // none.
  virtual void NotifyPaused() = 0;

  // Split irqchip: the 8259 is in user space.
  virtual bool ReadyForInterrupt() const = 0;
  virtual Status InjectInterrupt(uint8_t vector) = 0;
  virtual void RequestInterruptWindow(bool on) = 0;
};

}  // namespace crosvm::hypervisor

// The interrupts of one PCI function: each source is an eventfd that a device process signals
// ("call"). Depending on what the guest has set up it is
//
//   irqfd    MSI-X on, vector unmasked: KVM injects, this process sleeps
//   watched  vector masked (sets its pending bit), or MSI-X off (sets ISR bits and raises INTx)
//   idle     MSI-X on, no vector assigned: signals are dropped
//
// Whatever was signalled but not yet seen by the event loop is collected before a mode changes and
// before the guest reads pending bits or ISR, so the guest never sees a stale state.
//
// All methods are thread-safe (vCPUs, main loop), but Create() and destruction, which are the
// loop's thread's. Lock order: a caller's own lock may be held; this one is held while the router
// and the VM are called.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "bus/interrupt_line.h"
#include "event/event_loop.h"
#include "hypervisor/irq_routing.h"
#include "hypervisor/vm.h"
#include "pci/msix.h"
#include "sys/event_fd.h"

namespace crosvm::pci {

inline constexpr uint16_t kNoVector = 0xffff;

// What one VM offers to all functions.
struct InterruptContext {
  hypervisor::Vm& vm;
  hypervisor::IrqRouter& router;
  event::EventLoop& loop;  // of the main thread
};

class Interrupts : public std::enable_shared_from_this<Interrupts> {
 public:
  struct Options {
    std::string name;                          // of the device, for messages
    uint16_t vectors = 1;                      // MSI-X table size
    std::vector<uint8_t> isr_bits;             // one source each: what it sets in ISR without MSI-X
    std::unique_ptr<bus::InterruptLine> intx;  // null: the function has no INTx
  };
  static Result<std::shared_ptr<Interrupts>> Create(const InterruptContext& context,
                                                    Options options);
  ~Interrupts();

  // The eventfd to signal; valid for as long as this object. REQUIRES: source < number of isr_bits.
  const sys::EventFd& call(size_t source) const { return sources_[source].call; }
  uint16_t vectors() const { return vectors_; }

  // Binds a source to a vector. Returns what is in force: kNoVector for a vector that does not
  // exist.
  uint16_t SetVector(size_t source, uint16_t vector_untrusted);
  // Reads and clears ISR; the line goes down.
  uint8_t TakeIsr();
  // Forgets vectors, ISR, pending bits and signals not yet delivered: the device was reset.
  void Reset();

  void SetMsixControl(bool enabled, bool function_masked);
  void SetIntxDisabled(bool disabled);
  // For the status register: ISR is set, whether or not INTx is disabled.
  bool intx_pending() const;

  void ReadTable(uint64_t offset, std::span<uint8_t> data) const;
  void WriteTable(uint64_t offset, std::span<const uint8_t> data);
  void ReadPending(uint64_t offset, std::span<uint8_t> data);

 private:
  enum class Mode : uint8_t { kIdle, kWatched, kIrqFd };
  struct Source {
    sys::EventFd call;
    uint8_t isr_bit = 0;
    uint16_t vector = kNoVector;
    Mode mode = Mode::kIdle;
    bool watched = false;        // what the loop was last told
    hypervisor::Gsi attached{};  // kIrqFd
  };
  struct Route {
    std::optional<hypervisor::Gsi> gsi;
    hypervisor::MsiMessage message;  // what the router has
  };

  Interrupts(const InterruptContext& context, Options& options);

  Mode Wanted(const Source& source) const CROSVM_REQUIRES(mutex_);
  bool VectorIs(uint16_t vector) const { return vector < vectors_; }
  // Takes what was signalled while watched and delivers it under the rules in force now.
  void Collect(Source& source) CROSVM_REQUIRES(mutex_);
  void CollectAll() CROSVM_REQUIRES(mutex_);
  void Deliver(Source& source) CROSVM_REQUIRES(mutex_);
  void InjectPending(uint16_t vector) CROSVM_REQUIRES(mutex_);
  void Inject(uint16_t vector) CROSVM_REQUIRES(mutex_);
  // Brings a source into the mode that is wanted.
  void Refresh(Source& source) CROSVM_REQUIRES(mutex_);
  void RefreshAll() CROSVM_REQUIRES(mutex_);
  void Detach(Source& source) CROSVM_REQUIRES(mutex_);
  bool Attach(Source& source) CROSVM_REQUIRES(mutex_);
  Result<hypervisor::Gsi> EnsureRoute(uint16_t vector) CROSVM_REQUIRES(mutex_);
  void UpdateLine() CROSVM_REQUIRES(mutex_);
  void RequestWatchSync() CROSVM_REQUIRES(mutex_);
  // On the loop: makes the watches match the modes.
  void SyncWatches();
  void OnSignalled(size_t source);

  const InterruptContext context_;
  const std::string name_;
  const uint16_t vectors_;
  const std::unique_ptr<bus::InterruptLine> intx_;

  mutable Mutex mutex_;
  // The eventfds and the number of sources never change; the rest of a Source is guarded by mutex_.
  std::vector<Source> sources_;
  Msix msix_ CROSVM_GUARDED_BY(mutex_);
  std::vector<Route> routes_ CROSVM_GUARDED_BY(mutex_);
  uint8_t isr_ CROSVM_GUARDED_BY(mutex_) = 0;
  bool intx_disabled_ CROSVM_GUARDED_BY(mutex_) = false;
  bool line_up_ CROSVM_GUARDED_BY(mutex_) = false;
  bool sync_posted_ CROSVM_GUARDED_BY(mutex_) = false;
  std::vector<event::Watch> watches_;  // the loop's thread only
};

}  // namespace crosvm::pci

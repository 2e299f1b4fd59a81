// The user-space half of the split irqchip: PIC pair, PIT and IOAPIC, wired together. GSI N below
// 16 is pin N of both the PICs and the IOAPIC, others of the IOAPIC alone. In the VMM.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "bus/bus.h"
#include "bus/interrupt_line.h"
#include "event/event_loop.h"
#include "hypervisor/irq_routing.h"
#include "platform/ioapic.h"
#include "platform/pic.h"
#include "platform/pit.h"

namespace crosvm::platform {

struct SplitIrqChipOptions {
  uint32_t pins = 24;  // of the IOAPIC; what KVM_CAP_SPLIT_IRQCHIP was told
  MonotonicClock clock = event::Clock::now;
};

class SplitIrqChip {
 public:
  // `request_injection` as in Pic: makes vCPU 0 leave the guest, look at pic().pending(), and
  // inject. Destroyed on the loop's thread, after the buses that hold its devices.
  SplitIrqChip(event::EventLoop& loop, std::unique_ptr<IoapicOutput> output,
               std::function<void()> request_injection, const SplitIrqChipOptions& options = {});

  // Puts the PIC, PIT and speaker ports on `ports` and the IOAPIC at `ioapic_base` on `mmio`.
  Status Insert(bus::Bus& ports, bus::Bus& mmio, uint64_t ioapic_base);

  // Edge: Raise() is one pulse. Several lines may drive one level GSI: it is up while any of them
  // is. The chip outlives the lines.
  std::shared_ptr<bus::InterruptLine> MakeEdgeLine(hypervisor::Gsi gsi);
  std::shared_ptr<bus::InterruptLine> MakeLevelLine(hypervisor::Gsi gsi);

  Pic& pic() { return pic_; }
  Ioapic& ioapic() { return *ioapic_; }

 private:
  friend class SplitLine;
  void SetGsi(uint32_t gsi, bool level);
  // A level line of `gsi` went up (+1) or down (-1).
  void Count(uint32_t gsi, bool up);

  Pic pic_;
  const std::shared_ptr<Ioapic> ioapic_;
  Pit pit_;
  Mutex mutex_;
  std::vector<uint32_t> raised_ CROSVM_GUARDED_BY(mutex_);  // level lines that are up, per GSI
};

}  // namespace crosvm::platform

// Wires into the in-kernel interrupt controller, over irqfds. Wires into the user-space chips are
// in split_irqchip.h.
#pragma once

#include <atomic>
#include <memory>

#include "base/mutex.h"
#include "base/result.h"
#include "bus/interrupt_line.h"
#include "event/event_loop.h"
#include "hypervisor/vm.h"
#include "sys/event_fd.h"

namespace crosvm::platform {

// Edge: Raise() is one pulse, Lower() nothing.
class IrqFdLine : public bus::InterruptLine {
 public:
  // `vm` outlives the line.
  static Result<std::shared_ptr<IrqFdLine>> Create(hypervisor::Vm& vm, hypervisor::Gsi gsi);
  ~IrqFdLine() override;

  void Raise() override { event_.Signal(); }
  void Lower() override {}
  // For whom can signal it without us (a device process).
  const sys::EventFd& event() const { return event_; }

 private:
  IrqFdLine(hypervisor::Vm& vm, hypervisor::Gsi gsi, sys::EventFd event)
      : vm_(vm), gsi_(gsi), event_(std::move(event)) {}

  hypervisor::Vm& vm_;
  const hypervisor::Gsi gsi_;
  const sys::EventFd event_;
};

// Level: KVM keeps the line up until the guest's EOI and then says so; while the device still wants
// it up, it is raised again. Several may share a GSI. Lower() takes effect at the next EOI, so a
// guest may see one interrupt too many, as on any shared line.
class LevelIrqFdLine : public bus::InterruptLine {
 public:
  // On the loop's thread, where it is destroyed too. `vm` and `loop` outlive the line.
  static Result<std::shared_ptr<LevelIrqFdLine>> Create(event::EventLoop& loop, hypervisor::Vm& vm,
                                                        hypervisor::Gsi gsi);
  ~LevelIrqFdLine() override;

  void Raise() override;
  void Lower() override;

 private:
  LevelIrqFdLine(hypervisor::Vm& vm, hypervisor::Gsi gsi, sys::EventFd event, sys::EventFd resample)
      : vm_(vm), gsi_(gsi), event_(std::move(event)), resample_(std::move(resample)) {}
  void OnEndOfInterrupt();

  hypervisor::Vm& vm_;
  const hypervisor::Gsi gsi_;
  const sys::EventFd event_;
  const sys::EventFd resample_;
  event::Watch watch_;  // the loop's thread

  Mutex mutex_;
  bool wanted_ CROSVM_GUARDED_BY(mutex_) = false;
};

}  // namespace crosvm::platform

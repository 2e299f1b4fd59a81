// Wires into the in-kernel interrupt controller, over irqfds. Wires into the user-space chips are
// in split_irqchip.h.
#pragma once

#include <memory>

#include "base/result.h"
#include "bus/interrupt_line.h"
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

}  // namespace crosvm::platform

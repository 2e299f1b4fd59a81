// INTx wires: level-triggered lines that several functions may share. A line is up for as long as
// one of its functions asserts it; since every function lowers its own when the guest has read its
// cause (ISR), no resample is needed. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/mutex.h"
#include "bus/interrupt_line.h"
#include "hypervisor/vm.h"

namespace crosvm::pci {

// A pin of the in-kernel interrupt controller as a level line.
class VmInterruptLine final : public bus::InterruptLine {
 public:
  VmInterruptLine(hypervisor::Vm& vm, hypervisor::Gsi gsi) : vm_(vm), gsi_(gsi) {}
  void Raise() override { Set(true); }
  void Lower() override { Set(false); }

 private:
  void Set(bool level);
  hypervisor::Vm& vm_;
  const hypervisor::Gsi gsi_;
};

// The wired-or of any number of functions on one controller input.
class SharedLine {
 public:
  explicit SharedLine(std::shared_ptr<bus::InterruptLine> target);
  ~SharedLine();

  // A function's own end. Destroying it lowers it. May outlive the SharedLine.
  std::unique_ptr<bus::InterruptLine> Connect();

 private:
  struct State;
  class Connection;
  std::shared_ptr<State> state_;
};

}  // namespace crosvm::pci

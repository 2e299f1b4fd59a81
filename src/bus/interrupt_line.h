// An interrupt wire from a device to an interrupt controller.
#pragma once

namespace crosvm::bus {

// Thread-safe.
class InterruptLine {
 public:
  virtual ~InterruptLine() = default;
  // Edge: one pulse. Level lines: raises and keeps raised until Lower().
  virtual void Raise() = 0;
  virtual void Lower() = 0;
};

}  // namespace crosvm::bus

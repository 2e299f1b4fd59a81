// The I/O APIC (Intel 82093AA) for the split irqchip: pins in, MSIs out, since the local APICs are
// in the kernel. In the VMM: registers on vCPU threads, pins from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "bus/device.h"
#include "hypervisor/irq_routing.h"
#include "hypervisor/vm.h"

namespace crosvm::platform {

// Where a pin's interrupt goes. Called with the chip's lock held; must not call back.
class IoapicOutput {
 public:
  virtual ~IoapicOutput() = default;
  // The pin's message has changed. KVM reports the EOI of a level interrupt only for vectors it
  // finds in its routing table, so the table has to follow.
  virtual void Route(uint32_t pin, const hypervisor::MsiMessage& message) = 0;
  virtual void Deliver(uint32_t pin, const hypervisor::MsiMessage& message) = 0;
};

// IoapicOutput over KVM. Takes the first GSIs of a router, which must give them out from 0: pin N
// is GSI N.
class KvmIoapicOutput : public IoapicOutput {
 public:
  // `vm` and `router` outlive it. kInvalidArgument when the router's first GSIs are not free.
  static Result<std::unique_ptr<KvmIoapicOutput>> Create(hypervisor::Vm& vm,
                                                         hypervisor::IrqRouter& router,
                                                         uint32_t pins);
  void Route(uint32_t pin, const hypervisor::MsiMessage& message) override;
  void Deliver(uint32_t pin, const hypervisor::MsiMessage& message) override;

 private:
  KvmIoapicOutput(hypervisor::Vm& vm, hypervisor::IrqRouter& router) : vm_(vm), router_(router) {}
  hypervisor::Vm& vm_;
  hypervisor::IrqRouter& router_;
};

class Ioapic : public bus::Device {
 public:
  static constexpr uint64_t kLength = 0x100;
  static constexpr uint32_t kMaxPins = 120;  // all that the index register can address

  // 1 to kMaxPins pins. `output` is not null.
  Ioapic(uint32_t pins, std::unique_ptr<IoapicOutput> output);

  // `asserted` is the logical state: as in KVM's own chip, the polarity bit is kept but does not
  // invert it, because our devices do not know electrical levels. An edge on a masked pin is lost.
  // Pins that do not exist are ignored.
  void SetPin(uint32_t pin, bool asserted);
  // The guest ended a level interrupt with this vector (ExitIoapicEoi).
  void EndOfInterrupt(uint8_t vector);

  std::string_view name() const override { return "IOAPIC"; }
  // 32-bit accesses to the window; others read as zero and write nowhere.
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  uint32_t pins() const { return pins_; }

 private:
  struct Pin {
    uint64_t entry;
    bool asserted = false;
  };
  uint32_t ReadIndexed() CROSVM_REQUIRES(mutex_);
  void WriteIndexed(uint32_t value) CROSVM_REQUIRES(mutex_);
  void WriteEntry(uint32_t index, bool high, uint32_t value) CROSVM_REQUIRES(mutex_);
  // Sends the pin's interrupt if its state and entry allow.
  void ServiceLevel(uint32_t index) CROSVM_REQUIRES(mutex_);
  void End(uint8_t vector) CROSVM_REQUIRES(mutex_);
  static hypervisor::MsiMessage MessageOf(uint64_t entry);

  const uint32_t pins_;
  const std::unique_ptr<IoapicOutput> output_;
  Mutex mutex_;
  uint8_t index_ CROSVM_GUARDED_BY(mutex_) = 0;
  uint32_t id_ CROSVM_GUARDED_BY(mutex_) = 0;
  std::vector<Pin> table_ CROSVM_GUARDED_BY(mutex_);
};

}  // namespace crosvm::platform

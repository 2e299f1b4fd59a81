// ACPI fixed hardware (ACPI 6.4, 4.8.3): PM1 event and control registers, the power-management
// timer, power button and sleep states. The machine is always in ACPI mode (SCI_EN reads as one;
// there is no SMI command). In the VMM.
//
//   +0 PM1_STS  +2 PM1_EN  +4 PM1_CNT  +8 PM_TMR
#pragma once

#include <array>
#include <functional>
#include <memory>

#include "base/mutex.h"
#include "bus/interrupt_line.h"
#include "event/event_loop.h"
#include "platform/byte_port.h"
#include "platform/vm_events.h"

namespace crosvm::platform {

using MonotonicClock = std::function<event::Clock::time_point()>;

struct AcpiPmOptions {
  uint8_t power_off_type = 0;  // SLP_TYP of the _S5 package; every other value asks for a suspend
  bool timer_32bit = true;     // FADT flag TMR_VAL_EXT; else 24 bits
  MonotonicClock clock = event::Clock::now;
};

class AcpiPm : public bus::Device {
 public:
  static constexpr uint64_t kLength = 12;

  // `sci` is a level line. `events` outlives the device.
  AcpiPm(std::shared_ptr<bus::InterruptLine> sci, VmEvents& events, AcpiPmOptions options = {});

  // Any thread. The guest hears of it by SCI if it listens.
  void PressPowerButton();
  void PressSleepButton();
  // The machine goes on after a suspend that the guest asked for: sets WAK_STS, on which the guest
  // waits.
  void Wake();

  std::string_view name() const override { return "ACPI PM"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

 private:
  static constexpr size_t kRegisters = 12;
  void SetStatus(uint16_t bits);
  void UpdateSci() CROSVM_REQUIRES(mutex_);
  void WriteByte(uint64_t offset, uint8_t value) CROSVM_REQUIRES(mutex_);
  // The whole block as it reads now.
  std::array<uint8_t, kRegisters> Snapshot() CROSVM_REQUIRES(mutex_);
  uint32_t Timer() const;

  const std::shared_ptr<bus::InterruptLine> sci_;
  VmEvents& events_;
  const AcpiPmOptions options_;
  const event::Clock::time_point start_;

  Mutex mutex_;
  uint16_t status_ CROSVM_GUARDED_BY(mutex_) = 0;
  uint16_t enable_ CROSVM_GUARDED_BY(mutex_) = 0;
  uint16_t control_ CROSVM_GUARDED_BY(mutex_) = 0;
  bool timer_top_ CROSVM_GUARDED_BY(mutex_) = false;  // the timer's highest bit when last looked at
  bool sci_up_ CROSVM_GUARDED_BY(mutex_) = false;
};

}  // namespace crosvm::platform

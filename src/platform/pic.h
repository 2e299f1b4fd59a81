// The pair of 8259A interrupt controllers of a PC, for the split irqchip (otherwise KVM has them).
// Primary pins 0-7, secondary 8-15 through the primary's pin 2. In the VMM; registers on vCPU
// threads, pins from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "base/mutex.h"
#include "platform/byte_port.h"

namespace crosvm::platform {

// One chip, without locking.
class Pic8259 {
 public:
  // `elcr_mask`: pins that may be level-triggered.
  Pic8259(bool primary, uint8_t elcr_mask) : primary_(primary), elcr_mask_(elcr_mask) {}

  void SetPin(uint8_t pin, bool level);
  // The pin whose interrupt goes out now; empty when the output is low.
  std::optional<uint8_t> Highest() const;
  // What the processor's acknowledge of `pin` does.
  void Acknowledge(uint8_t pin);
  uint8_t vector_base() const { return vector_base_; }

  void WriteCommand(uint8_t value);
  void WriteData(uint8_t value);
  uint8_t ReadCommand();
  uint8_t ReadData();
  void set_elcr(uint8_t value) { elcr_ = value & elcr_mask_; }
  uint8_t elcr() const { return elcr_; }

 private:
  static constexpr uint8_t kPins = 8;
  // The order of pin priorities, 0 highest: position of the most important set bit; kPins for none.
  uint8_t TopPriority(uint8_t pins) const;
  uint8_t PinAt(uint8_t priority) const {
    return static_cast<uint8_t>((priority + lowest_plus_one_) % kPins);
  }
  void Initialise(uint8_t icw1);
  void Operate(uint8_t ocw2);
  uint8_t Poll();

  enum class Step : uint8_t { kReady, kIcw2, kIcw3, kIcw4 };

  const bool primary_;
  const uint8_t elcr_mask_;
  uint8_t requested_ = 0;   // IRR
  uint8_t in_service_ = 0;  // ISR
  uint8_t masked_ = 0;      // IMR
  uint8_t levels_ = 0;      // the pins now, for edge detection
  uint8_t elcr_ = 0;
  uint8_t vector_base_ = 0;
  uint8_t lowest_plus_one_ = 0;  // the pin of highest priority
  bool read_in_service_ = false;
  bool poll_ = false;
  bool special_mask_ = false;
  bool auto_eoi_ = false;
  bool rotate_on_auto_eoi_ = false;
  bool special_fully_nested_ = false;
  bool wants_icw4_ = false;
  Step step_ = Step::kReady;
};

class Pic {
 public:
  // `request` is called when an interrupt is there for the processor (vCPU 0 has to be kicked out
  // of the guest, or asked for an interrupt window). Any thread that changes the chip; with the
  // chip's lock held: it must not call back.
  explicit Pic(std::function<void()> request);

  // Pins 0-15. Others are ignored.
  void SetPin(uint32_t pin, bool level);
  bool pending();
  // The processor takes the interrupt: its vector. Empty when none is pending.
  std::optional<uint8_t> Acknowledge();

  // To be put on the port bus, 2 ports each: 0x20, 0xa0, 0x4d0. They refer to this object and are
  // destroyed before it.
  std::shared_ptr<bus::Device> primary_ports();
  std::shared_ptr<bus::Device> secondary_ports();
  std::shared_ptr<bus::Device> trigger_ports();
  static constexpr uint64_t kPortLength = 2;

 private:
  friend class PicPorts;
  enum class Block : uint8_t { kPrimary, kSecondary, kTrigger };
  uint8_t ReadPort(Block block, uint64_t offset);
  void WritePort(Block block, uint64_t offset, uint8_t value);
  // Carries the secondary's output to the primary and reports a rising output of the primary.
  void Update(bool acknowledged = false) CROSVM_REQUIRES(mutex_);

  const std::function<void()> request_;
  Mutex mutex_;
  Pic8259 primary_ CROSVM_GUARDED_BY(mutex_);
  Pic8259 secondary_ CROSVM_GUARDED_BY(mutex_);
  bool output_ CROSVM_GUARDED_BY(mutex_) = false;
};

}  // namespace crosvm::platform

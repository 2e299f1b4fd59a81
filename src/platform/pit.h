// The 8254 interval timer and the speaker port, for the split irqchip (otherwise KVM has them).
// Channel 0 drives IRQ 0, channel 2 the speaker gate. Counts are binary. In the VMM: registers on
// vCPU threads, the timer on the main loop.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/mutex.h"
#include "bus/interrupt_line.h"
#include "event/event_loop.h"
#include "platform/acpi_pm.h"
#include "platform/byte_port.h"
#include "platform/remote_timer.h"

namespace crosvm::platform {

// One channel as a pure function of time, without locking. Times are ticks of 1.193182 MHz since
// some start.
class PitChannel {
 public:
  // The control word without its channel bits: access, mode, BCD.
  void Configure(uint8_t control, uint64_t now);
  void Write(uint8_t value, uint64_t now);
  uint8_t Read(uint64_t now);
  void LatchCount(uint64_t now);
  void LatchStatus(uint64_t now);
  void SetGate(bool gate, uint64_t now);
  bool gate() const { return gate_; }
  bool Output(uint64_t now) const;
  // When the output rises next, after `now`; empty when it does not by itself.
  std::optional<uint64_t> NextRise(uint64_t now) const;
  uint32_t count() const { return count_; }
  bool periodic() const { return mode_ == 2 || mode_ == 3; }

 private:
  // Ticks that were counted since the count was loaded (or the gate triggered).
  uint64_t Elapsed(uint64_t now) const;
  uint16_t Count(uint64_t now) const;
  void Load(uint16_t count, uint64_t now);
  void Restart(uint64_t now);

  enum class Access : uint8_t { kLow = 1, kHigh = 2, kBoth = 3 };

  Access access_ = Access::kBoth;
  uint8_t mode_ = 3;
  bool bcd_ = false;  // remembered for the status only
  bool gate_ = true;
  uint32_t count_ = 0x10000;  // 1-65536
  bool loaded_ = false;       // a whole count was written since the control word
  bool running_ = false;      // modes 1 and 5 start at a rising gate
  uint64_t start_ = 0;
  std::optional<uint64_t> paused_;   // elapsed ticks while the gate holds the counter
  std::optional<uint8_t> low_byte_;  // first half of a two-byte write
  bool read_high_ = false;           // second half of a two-byte read
  std::optional<uint16_t> latched_count_;
  std::optional<uint8_t> latched_status_;
};

class Pit {
 public:
  // `line` is IRQ 0: one pulse at each rise of channel 0's output. Destroyed on the loop's thread.
  Pit(event::EventLoop& loop, std::shared_ptr<bus::InterruptLine> line,
      MonotonicClock clock = event::Clock::now);

  // To be put on the port bus: 0x40 (4 ports) and 0x61 (1). They refer to this object and are
  // destroyed before it.
  std::shared_ptr<bus::Device> counter_ports();
  std::shared_ptr<bus::Device> speaker_port();
  static constexpr uint64_t kCounterLength = 4;
  static constexpr uint64_t kSpeakerLength = 1;

 private:
  friend class PitPorts;
  uint8_t ReadCounter(uint64_t offset);
  void WriteCounter(uint64_t offset, uint8_t value);
  uint8_t ReadSpeaker();
  void WriteSpeaker(uint8_t value);
  std::chrono::nanoseconds Elapsed() const;  // since start_
  uint64_t Now() const;                      // the same in ticks
  void Control(uint8_t value) CROSVM_REQUIRES(mutex_);
  void Arm() CROSVM_REQUIRES(mutex_);
  void OnTimer();

  const std::shared_ptr<bus::InterruptLine> line_;
  const MonotonicClock clock_;
  const event::Clock::time_point start_;

  Mutex mutex_;
  std::array<PitChannel, 3> channels_ CROSVM_GUARDED_BY(mutex_);
  bool speaker_on_ CROSVM_GUARDED_BY(mutex_) = false;
  std::optional<uint64_t> next_rise_ CROSVM_GUARDED_BY(mutex_);
  RemoteTimer timer_;
};

}  // namespace crosvm::platform

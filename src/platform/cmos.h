// The MC146818 real-time clock and the CMOS memory behind it: UTC in BCD or binary, alarm, periodic
// and update interrupts, and the memory sizes that firmware reads. In the VMM: registers on vCPU
// threads, timers on the main loop.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>

#include "base/mutex.h"
#include "bus/interrupt_line.h"
#include "event/event_loop.h"
#include "platform/byte_port.h"
#include "platform/remote_timer.h"

namespace crosvm::platform {

using WallClock = std::function<std::chrono::system_clock::time_point()>;

struct CmosOptions {
  uint64_t ram_below_4g = 0;  // bytes
  uint64_t ram_above_4g = 0;
  WallClock clock = std::chrono::system_clock::now;
};

// Two byte registers: index and data. A guest that sets the time moves its own clock, not the
// host's.
class Cmos : public ByteDevice {
 public:
  static constexpr uint64_t kLength = 2;

  // `line` is IRQ 8, edge. Made anywhere, destroyed on the loop's thread.
  Cmos(event::EventLoop& loop, std::shared_ptr<bus::InterruptLine> line,
       const CmosOptions& options);

  std::string_view name() const override { return "CMOS"; }

 private:
  static constexpr size_t kSize = 128;
  using Microseconds = std::chrono::microseconds;

  uint8_t ReadByte(uint64_t offset) override;
  void WriteByte(uint64_t offset, uint8_t value) override;

  uint8_t ReadRegister(uint8_t index) CROSVM_REQUIRES(mutex_);
  void WriteRegister(uint8_t index, uint8_t value) CROSVM_REQUIRES(mutex_);
  // The guest's time since 1970, while it runs.
  Microseconds GuestTime() const CROSVM_REQUIRES(mutex_);
  tm Fields() const CROSVM_REQUIRES(mutex_);
  void SetFields(const tm& fields) CROSVM_REQUIRES(mutex_);
  uint8_t TimeRegister(uint8_t index, const tm& fields) const CROSVM_REQUIRES(mutex_);
  void SetTimeRegister(uint8_t index, uint8_t value) CROSVM_REQUIRES(mutex_);
  uint8_t Encode(int value) const CROSVM_REQUIRES(mutex_);
  int Decode(uint8_t value) const CROSVM_REQUIRES(mutex_);
  uint8_t EncodeHour(int hour) const CROSVM_REQUIRES(mutex_);
  int DecodeHour(uint8_t value) const CROSVM_REQUIRES(mutex_);
  bool AlarmMatches(const tm& fields) const CROSVM_REQUIRES(mutex_);
  void WriteStatusB(uint8_t value) CROSVM_REQUIRES(mutex_);
  void ArmSecond() CROSVM_REQUIRES(mutex_);
  void ArmPeriod() CROSVM_REQUIRES(mutex_);
  void Flag(uint8_t bits) CROSVM_REQUIRES(mutex_);
  void OnSecond();
  void OnPeriod();

  const std::shared_ptr<bus::InterruptLine> line_;
  const WallClock clock_;

  Mutex mutex_;
  uint8_t index_ CROSVM_GUARDED_BY(mutex_) = 0;
  std::array<uint8_t, kSize> memory_ CROSVM_GUARDED_BY(mutex_){};
  Microseconds offset_ CROSVM_GUARDED_BY(mutex_){0};  // of the guest's clock from the host's
  // What the registers hold while SET is on: a date in the making, of which only the whole need be
  // possible.
  tm frozen_ CROSVM_GUARDED_BY(mutex_){};
  RemoteTimer second_timer_;
  RemoteTimer period_timer_;
};

}  // namespace crosvm::platform

#include "platform/acpi_pm.h"

#include <chrono>
#include <utility>

namespace crosvm::platform {
namespace {

constexpr uint16_t kTimerStatus = 0x0001;
constexpr uint16_t kGlobal = 0x0020;
constexpr uint16_t kPowerButton = 0x0100;
constexpr uint16_t kSleepButton = 0x0200;
constexpr uint16_t kRtc = 0x0400;
constexpr uint16_t kWake = 0x8000;
constexpr uint16_t kEnableMask = kTimerStatus | kGlobal | kPowerButton | kSleepButton | kRtc;

constexpr uint16_t kSciEnable = 0x0001;
constexpr uint16_t kSleepTypeMask = 0x1c00;
constexpr int kSleepTypeShift = 10;
constexpr uint16_t kSleepEnable = 0x2000;
// Bus master reload and the sleep type are kept; GBL_RLS and SLP_EN are write-only.
constexpr uint16_t kControlMask = 0x0002 | kSleepTypeMask;

constexpr uint64_t kTimerHz = 3'579'545;
constexpr uint64_t kNsPerSecond = 1'000'000'000;

void SetByte(uint16_t& target, bool high, uint8_t value) {
  target = high ? static_cast<uint16_t>((target & 0x00ff) | (value << 8))
                : static_cast<uint16_t>((target & 0xff00) | value);
}

}  // namespace

AcpiPm::AcpiPm(std::shared_ptr<bus::InterruptLine> sci, VmEvents& events, AcpiPmOptions options)
    : sci_(std::move(sci)),
      events_(events),
      options_(std::move(options)),
      start_(options_.clock()) {
}

uint32_t AcpiPm::Timer() const {
  const auto ns = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(options_.clock() - start_).count());
  // Seconds and the rest apart: the product of nanoseconds and the frequency overflows after 86
  // minutes.
  const uint64_t ticks = ns / kNsPerSecond * kTimerHz + ns % kNsPerSecond * kTimerHz / kNsPerSecond;
  return static_cast<uint32_t>(ticks) & (options_.timer_32bit ? 0xffff'ffffu : 0x00ff'ffffu);
}

std::array<uint8_t, AcpiPm::kRegisters> AcpiPm::Snapshot() {
  const uint32_t timer = Timer();
  // TMR_STS is set whenever the highest bit changes; noticed when somebody looks (no interrupt
  // comes of it).
  const bool top = (timer & (options_.timer_32bit ? 0x8000'0000u : 0x0080'0000u)) != 0;
  if (top != std::exchange(timer_top_, top)) status_ |= kTimerStatus;
  const auto control = static_cast<uint16_t>(control_ | kSciEnable);
  const auto low = [](uint32_t value, int byte) {
    return static_cast<uint8_t>(value >> (8 * byte));
  };
  return {low(status_, 0),
          low(status_, 1),
          low(enable_, 0),
          low(enable_, 1),
          low(control, 0),
          low(control, 1),
          0,
          0,
          low(timer, 0),
          low(timer, 1),
          low(timer, 2),
          low(timer, 3)};
}

void AcpiPm::Read(uint64_t offset, std::span<uint8_t> data) {
  const MutexLock lock(mutex_);
  const std::array<uint8_t, kRegisters> all = Snapshot();
  for (size_t i = 0; i < data.size(); ++i) {
    data[i] = offset < kRegisters && i < kRegisters - offset ? all.at(offset + i) : 0xff;
  }
}

void AcpiPm::Write(uint64_t offset, std::span<const uint8_t> data) {
  bool sleeps = false;
  uint8_t type = 0;
  {
    const MutexLock lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) WriteByte(offset + i, data[i]);
    sleeps = (control_ & kSleepEnable) != 0;
    type = static_cast<uint8_t>((control_ & kSleepTypeMask) >> kSleepTypeShift);
    control_ &= kControlMask;
    UpdateSci();
  }
  if (!sleeps) return;
  if (type == options_.power_off_type) {
    events_.OnPowerOff();
  } else {
    events_.OnSuspendRequest();
  }
}

void AcpiPm::WriteByte(uint64_t offset, uint8_t value) {
  const bool high = (offset & 1) != 0;
  uint16_t clear = 0;
  switch (offset) {
    case 0:
    case 1:
      SetByte(clear, high, value);
      status_ &= static_cast<uint16_t>(~clear);
      break;
    case 2:
    case 3:
      SetByte(enable_, high, value);
      enable_ &= kEnableMask;
      break;
    case 4:
    case 5:
      SetByte(control_, high, value);
      break;
    default:
      break;  // the timer is read-only
  }
}

void AcpiPm::UpdateSci() {
  const bool up = (status_ & enable_ & (kGlobal | kPowerButton | kSleepButton | kRtc)) != 0;
  if (up == std::exchange(sci_up_, up)) return;
  if (up) {
    sci_->Raise();
  } else {
    sci_->Lower();
  }
}

void AcpiPm::SetStatus(uint16_t bits) {
  const MutexLock lock(mutex_);
  status_ |= bits;
  UpdateSci();
}

void AcpiPm::PressPowerButton() {
  SetStatus(kPowerButton);
}
void AcpiPm::PressSleepButton() {
  SetStatus(kSleepButton);
}
void AcpiPm::Wake() {
  SetStatus(kWake);
}

}  // namespace crosvm::platform

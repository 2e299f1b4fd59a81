#include "platform/cmos.h"

#include <algorithm>
#include <utility>

namespace crosvm::platform {
namespace {

enum Register : uint8_t {
  kSeconds = 0x00,
  kSecondsAlarm = 0x01,
  kMinutes = 0x02,
  kMinutesAlarm = 0x03,
  kHours = 0x04,
  kHoursAlarm = 0x05,
  kWeekDay = 0x06,
  kDay = 0x07,
  kMonth = 0x08,
  kYear = 0x09,
  kStatusA = 0x0a,
  kStatusB = 0x0b,
  kStatusC = 0x0c,
  kStatusD = 0x0d,
  kBaseMemory = 0x15,      // KiB
  kExtendedMemory = 0x17,  // KiB above 1 MiB
  kExtendedMemory2 = 0x30,
  kCentury = 0x32,
  kMemoryAbove16M = 0x34,  // 64 KiB units
  kMemoryAbove4G = 0x5b,   // 64 KiB units, three bytes
};

constexpr uint8_t kUpdateInProgress = 0x80;
constexpr uint8_t kStatusADefault = 0x26;  // 32.768 kHz, 1024 Hz

constexpr uint8_t kSet = 0x80;
constexpr uint8_t kPeriodicEnable = 0x40;
constexpr uint8_t kAlarmEnable = 0x20;
constexpr uint8_t kUpdateEnable = 0x10;
constexpr uint8_t kBinary = 0x04;
constexpr uint8_t k24Hours = 0x02;

constexpr uint8_t kInterruptRequest = 0x80;
constexpr uint8_t kPeriodicFlag = 0x40;
constexpr uint8_t kAlarmFlag = 0x20;
constexpr uint8_t kUpdateFlag = 0x10;

constexpr uint8_t kValidRam = 0x80;
constexpr uint8_t kAfternoon = 0x80;
constexpr uint8_t kAnyAlarm = 0xc0;

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;
constexpr std::chrono::microseconds kSecond = std::chrono::seconds(1);
// A driver that sees no update in progress has this long to read the time.
constexpr std::chrono::microseconds kUpdateWindow{244};
// Faster rates than 1024 Hz would only load the main loop.
constexpr int kFastestRate = 6;

// Little-endian.
void Put(std::array<uint8_t, 128>& memory, uint8_t index, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) memory.at(index + i) = static_cast<uint8_t>(value >> (8 * i));
}

bool IsTime(uint8_t index) {
  switch (index) {
    case kSeconds:
    case kMinutes:
    case kHours:
    case kWeekDay:
    case kDay:
    case kMonth:
    case kYear:
    case kCentury:
      return true;
    default:
      return false;
  }
}

}  // namespace

Cmos::Cmos(event::EventLoop& loop, std::shared_ptr<bus::InterruptLine> line,
           const CmosOptions& options)
    : line_(std::move(line)),
      clock_(options.clock),
      second_timer_(loop, [this] { OnSecond(); }),
      period_timer_(loop, [this] { OnPeriod(); }) {
  const MutexLock lock(mutex_);
  const uint64_t below = options.ram_below_4g;
  const uint64_t extended = std::min<uint64_t>(below > kMiB ? (below - kMiB) / kKiB : 0, 0xffff);
  const uint64_t above_16m = below > 16 * kMiB ? (below - 16 * kMiB) / (64 * kKiB) : 0;
  Put(memory_, kBaseMemory, 640, 2);
  Put(memory_, kExtendedMemory, extended, 2);
  Put(memory_, kExtendedMemory2, extended, 2);
  Put(memory_, kMemoryAbove16M, std::min<uint64_t>(above_16m, 0xffff), 2);
  Put(memory_, kMemoryAbove4G, std::min<uint64_t>(options.ram_above_4g / (64 * kKiB), 0xff'ffff),
      3);
  memory_[kStatusA] = kStatusADefault;
  memory_[kStatusB] = k24Hours;
  memory_[kStatusD] = kValidRam;
}

uint8_t Cmos::ReadByte(uint64_t offset) {
  if (offset != 1) return 0xff;  // the index is write-only
  const MutexLock lock(mutex_);
  return ReadRegister(index_);
}

void Cmos::WriteByte(uint64_t offset, uint8_t value) {
  const MutexLock lock(mutex_);
  if (offset == 0) index_ = value & 0x7f;  // bit 7 gates NMI, which this machine has no source of
  if (offset == 1) WriteRegister(index_, value);
}

Cmos::Microseconds Cmos::GuestTime() const {
  return std::chrono::duration_cast<Microseconds>(clock_().time_since_epoch()) + offset_;
}

tm Cmos::Fields() const {
  if ((memory_[kStatusB] & kSet) != 0) return frozen_;
  const time_t seconds = std::chrono::floor<std::chrono::seconds>(GuestTime()).count();
  tm fields{};
  gmtime_r(&seconds, &fields);
  return fields;
}

void Cmos::SetFields(const tm& fields) {
  if ((memory_[kStatusB] & kSet) != 0) {
    frozen_ = fields;
    return;
  }
  tm copy = fields;
  // timegm() brings impossible dates into range.
  const Microseconds wanted = std::chrono::seconds(timegm(&copy));
  offset_ += wanted - GuestTime();
}

uint8_t Cmos::Encode(int value) const {
  if ((memory_[kStatusB] & kBinary) != 0) return static_cast<uint8_t>(value);
  return static_cast<uint8_t>((value / 10) << 4 | value % 10);
}

int Cmos::Decode(uint8_t value) const {
  if ((memory_[kStatusB] & kBinary) != 0) return value;
  return (value >> 4) * 10 + (value & 0xf);
}

uint8_t Cmos::EncodeHour(int hour) const {
  if ((memory_[kStatusB] & k24Hours) != 0) return Encode(hour);
  const uint8_t half = hour >= 12 ? kAfternoon : 0;
  return Encode(hour % 12 == 0 ? 12 : hour % 12) | half;
}

int Cmos::DecodeHour(uint8_t value) const {
  if ((memory_[kStatusB] & k24Hours) != 0) return Decode(value);
  const int hour = Decode(value & static_cast<uint8_t>(~kAfternoon)) % 12;
  return (value & kAfternoon) != 0 ? hour + 12 : hour;
}

uint8_t Cmos::TimeRegister(uint8_t index, const tm& fields) const {
  const int year = fields.tm_year + 1900;
  switch (index) {
    case kSeconds:
      return Encode(std::min(fields.tm_sec, 59));
    case kMinutes:
      return Encode(fields.tm_min);
    case kHours:
      return EncodeHour(fields.tm_hour);
    case kWeekDay:
      return Encode(fields.tm_wday + 1);
    case kDay:
      return Encode(fields.tm_mday);
    case kMonth:
      return Encode(fields.tm_mon + 1);
    case kYear:
      return Encode(year % 100);
    default:
      return Encode(year / 100 % 100);
  }
}

void Cmos::SetTimeRegister(uint8_t index, uint8_t value) {
  tm fields = Fields();
  const int year = fields.tm_year + 1900;
  switch (index) {
    case kSeconds:
      fields.tm_sec = Decode(value);
      break;
    case kMinutes:
      fields.tm_min = Decode(value);
      break;
    case kHours:
      fields.tm_hour = DecodeHour(value);
      break;
    case kWeekDay:
      return;  // follows from the date
    case kDay:
      fields.tm_mday = Decode(value);
      break;
    case kMonth:
      fields.tm_mon = Decode(value) - 1;
      break;
    case kYear:
      fields.tm_year = year / 100 * 100 + Decode(value) - 1900;
      break;
    default:
      fields.tm_year = Decode(value) * 100 + year % 100 - 1900;
      break;
  }
  SetFields(fields);
}

uint8_t Cmos::ReadRegister(uint8_t index) {
  if (IsTime(index)) return TimeRegister(index, Fields());
  if (index == kStatusA) {
    const Microseconds time = GuestTime();
    const Microseconds fraction = time - std::chrono::floor<std::chrono::seconds>(time);
    const bool updating = (memory_[kStatusB] & kSet) == 0 && fraction >= kSecond - kUpdateWindow;
    return memory_[kStatusA] | (updating ? kUpdateInProgress : uint8_t{0});
  }
  if (index == kStatusC) {
    const uint8_t flags = std::exchange(memory_[kStatusC], uint8_t{0});
    if ((flags & kInterruptRequest) != 0) line_->Lower();
    return flags;
  }
  return memory_.at(index);
}

void Cmos::WriteRegister(uint8_t index, uint8_t value) {
  if (IsTime(index)) return SetTimeRegister(index, value);
  switch (index) {
    case kStatusA:
      memory_[kStatusA] = value & static_cast<uint8_t>(~kUpdateInProgress);
      ArmPeriod();
      break;
    case kStatusB:
      WriteStatusB(value);
      break;
    case kStatusC:
    case kStatusD:
      break;  // read-only
    default:
      memory_.at(index) = value;
      break;
  }
}

void Cmos::WriteStatusB(uint8_t value) {
  const bool was_set = (memory_[kStatusB] & kSet) != 0;
  const bool set = (value & kSet) != 0;
  if (set && !was_set) frozen_ = Fields();
  memory_[kStatusB] = set ? value & static_cast<uint8_t>(~kUpdateEnable) : value;
  if (was_set && !set) SetFields(frozen_);
  ArmSecond();
  ArmPeriod();
}

void Cmos::ArmSecond() {
  const uint8_t status = memory_[kStatusB];
  if ((status & (kAlarmEnable | kUpdateEnable)) == 0 || (status & kSet) != 0) {
    second_timer_.Cancel();
    return;
  }
  const Microseconds time = GuestTime();
  second_timer_.Set(std::chrono::floor<std::chrono::seconds>(time) + kSecond - time);
}

void Cmos::ArmPeriod() {
  const int rate = memory_[kStatusA] & 0x0f;
  if ((memory_[kStatusB] & kPeriodicEnable) == 0 || rate == 0) {
    period_timer_.Cancel();
    return;
  }
  // Rates 1 and 2 are those of 8 and 9; all are 2^(rate-1) cycles of 32.768 kHz.
  const int shift = std::max(rate <= 2 ? rate + 7 : rate, kFastestRate) - 1;
  period_timer_.Set(std::chrono::nanoseconds((int64_t{1'000'000'000} << shift) / 32768));
}

void Cmos::Flag(uint8_t bits) {
  memory_[kStatusC] |= bits;
  const auto enabled = static_cast<uint8_t>(memory_[kStatusC] & memory_[kStatusB]);
  if ((enabled & (kPeriodicFlag | kAlarmFlag | kUpdateFlag)) == 0) return;
  if ((memory_[kStatusC] & kInterruptRequest) != 0) return;
  memory_[kStatusC] |= kInterruptRequest;
  line_->Raise();
}

bool Cmos::AlarmMatches(const tm& fields) const {
  const auto matches = [](uint8_t alarm, uint8_t now) {
    return (alarm & kAnyAlarm) == kAnyAlarm || alarm == now;
  };
  return matches(memory_[kSecondsAlarm], TimeRegister(kSeconds, fields)) &&
         matches(memory_[kMinutesAlarm], TimeRegister(kMinutes, fields)) &&
         matches(memory_[kHoursAlarm], TimeRegister(kHours, fields));
}

void Cmos::OnSecond() {
  const MutexLock lock(mutex_);
  const uint8_t status = memory_[kStatusB];
  if ((status & (kAlarmEnable | kUpdateEnable)) == 0 || (status & kSet) != 0) return;
  Flag(AlarmMatches(Fields()) ? kUpdateFlag | kAlarmFlag : kUpdateFlag);
  ArmSecond();
}

void Cmos::OnPeriod() {
  const MutexLock lock(mutex_);
  if ((memory_[kStatusB] & kPeriodicEnable) == 0) return;
  Flag(kPeriodicFlag);
  ArmPeriod();
}

}  // namespace crosvm::platform

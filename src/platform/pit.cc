#include "platform/pit.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace crosvm::platform {
namespace {

constexpr uint64_t kHz = 1'193'182;
constexpr uint64_t kNsPerSecond = 1'000'000'000;
// A guest that asks for more interrupts gets them at this rate: it would only load the main loop.
constexpr std::chrono::nanoseconds kShortestPeriod = std::chrono::microseconds(200);
// The refresh signal of the speaker port changes every 15 microseconds.
constexpr uint64_t kRefreshTicks = 18;

constexpr uint64_t kControlOffset = 3;
constexpr unsigned kReadBack = 3;
constexpr uint8_t kReadBackNoCount = 0x20;
constexpr uint8_t kReadBackNoStatus = 0x10;

constexpr uint8_t kSpeakerGate = 0x01;
constexpr uint8_t kSpeakerData = 0x02;
constexpr uint8_t kSpeakerRefresh = 0x10;
constexpr uint8_t kSpeakerOutput = 0x20;

constexpr uint8_t kStatusOutput = 0x80;
constexpr uint8_t kStatusNull = 0x40;

// Rounded up, so that a timer set for it does not fire a little early and find nothing to do.
std::chrono::nanoseconds ToNanoseconds(uint64_t ticks) {
  return std::chrono::nanoseconds(static_cast<int64_t>(
      ticks / kHz * kNsPerSecond + (ticks % kHz * kNsPerSecond + kHz - 1) / kHz));
}

}  // namespace

void PitChannel::Configure(uint8_t control, uint64_t now) {
  access_ = static_cast<Access>((control >> 4) & 3);
  mode_ = (control >> 1) & 7;
  if (mode_ > 5) mode_ -= 4;  // 6 and 7 are other spellings of 2 and 3
  bcd_ = (control & 1) != 0;
  loaded_ = false;
  running_ = false;
  paused_.reset();
  low_byte_.reset();
  read_high_ = false;
  latched_count_.reset();
  latched_status_.reset();
  start_ = now;
}

void PitChannel::Write(uint8_t value, uint64_t now) {
  switch (access_) {
    case Access::kLow:
      Load(value, now);
      break;
    case Access::kHigh:
      Load(static_cast<uint16_t>(value << 8), now);
      break;
    case Access::kBoth:
      if (!low_byte_) {
        low_byte_ = value;
        // In mode 0 the first byte stops the counter.
        if (mode_ == 0) loaded_ = false;
      } else {
        const auto count = static_cast<uint16_t>(value << 8 | *low_byte_);
        low_byte_.reset();
        Load(count, now);
      }
      break;
  }
}

void PitChannel::Load(uint16_t count, uint64_t now) {
  count_ = count == 0 ? 0x10000 : count;
  loaded_ = true;
  // Modes 1 and 5 wait for the gate; a running one-shot is not disturbed.
  if (mode_ != 1 && mode_ != 5) Restart(now);
}

void PitChannel::Restart(uint64_t now) {
  running_ = true;
  start_ = now;
  paused_.reset();
  if (!gate_ && mode_ != 1 && mode_ != 5) paused_ = 0;
}

uint64_t PitChannel::Elapsed(uint64_t now) const {
  return paused_ ? *paused_ : now - std::min(start_, now);
}

uint16_t PitChannel::Count(uint64_t now) const {
  if (!running_) return static_cast<uint16_t>(count_);
  const uint64_t elapsed = Elapsed(now);
  switch (mode_) {
    case 2:
      return static_cast<uint16_t>(count_ - elapsed % count_);
    // Counts down by two, twice a period.
    case 3:
      return static_cast<uint16_t>(count_ - 2 * elapsed % count_);
    default:
      return static_cast<uint16_t>(count_ - elapsed);
  }
}

bool PitChannel::Output(uint64_t now) const {
  if (!loaded_ || !running_) return mode_ != 0;
  const uint64_t elapsed = Elapsed(now);
  switch (mode_) {
    case 0:
    case 1:
      return elapsed >= count_;
    // A low gate holds the output of the periodic modes high.
    case 2:
      return !gate_ || elapsed % count_ != count_ - 1;
    case 3:
      return !gate_ || elapsed % count_ < (count_ + 1) / 2;
    default:
      return elapsed != count_;
  }
}

std::optional<uint64_t> PitChannel::NextRise(uint64_t now) const {
  if (!loaded_ || !running_ || paused_) return std::nullopt;
  const uint64_t elapsed = Elapsed(now);
  if (periodic()) return start_ + (elapsed / count_ + 1) * count_;
  // Modes 4 and 5 pulse low for one tick at the end.
  const uint64_t end = mode_ >= 4 ? uint64_t{count_} + 1 : count_;
  if (elapsed >= end) return std::nullopt;
  return start_ + end;
}

void PitChannel::SetGate(bool gate, uint64_t now) {
  if (gate == std::exchange(gate_, gate)) return;
  if (!loaded_) return;
  switch (mode_) {
    case 1:
    case 5:
      if (gate) Restart(now);
      break;
    case 2:
    case 3:
      if (gate) {
        Restart(now);
      } else {
        paused_ = Elapsed(now);
      }
      break;
    default:
      if (!gate) {
        paused_ = Elapsed(now);
      } else if (paused_) {
        start_ = now - std::min(now, *paused_);
        paused_.reset();
      }
      break;
  }
}

void PitChannel::LatchCount(uint64_t now) {
  // A second latch before the first is read changes nothing.
  if (!latched_count_) latched_count_ = Count(now);
}

void PitChannel::LatchStatus(uint64_t now) {
  if (latched_status_) return;
  latched_status_ =
      static_cast<uint8_t>((Output(now) ? kStatusOutput : 0) | (loaded_ ? 0 : kStatusNull) |
                           static_cast<uint8_t>(access_) << 4 | mode_ << 1 | (bcd_ ? 1 : 0));
}

uint8_t PitChannel::Read(uint64_t now) {
  if (latched_status_) {
    const uint8_t status = *latched_status_;
    latched_status_.reset();
    return status;
  }
  const uint16_t count = latched_count_.value_or(Count(now));
  bool high = access_ == Access::kHigh;
  bool last = true;
  if (access_ == Access::kBoth) {
    high = std::exchange(read_high_, !read_high_);
    last = high;
  }
  if (last) latched_count_.reset();
  return static_cast<uint8_t>(high ? count >> 8 : count);
}

// One of the two port ranges.
class PitPorts : public ByteDevice {
 public:
  PitPorts(Pit& pit, bool speaker) : pit_(pit), speaker_(speaker) {}
  std::string_view name() const override { return speaker_ ? "speaker port" : "PIT"; }

 private:
  uint8_t ReadByte(uint64_t offset) override {
    if (!speaker_) return pit_.ReadCounter(offset);
    return offset == 0 ? pit_.ReadSpeaker() : 0xff;
  }
  void WriteByte(uint64_t offset, uint8_t value) override {
    if (!speaker_) {
      pit_.WriteCounter(offset, value);
    } else if (offset == 0) {
      pit_.WriteSpeaker(value);
    }
  }

  Pit& pit_;
  const bool speaker_;
};

Pit::Pit(event::EventLoop& loop, std::shared_ptr<bus::InterruptLine> line, MonotonicClock clock)
    : line_(std::move(line)),
      clock_(std::move(clock)),
      start_(clock_()),
      timer_(loop, [this] { OnTimer(); }) {
  const MutexLock lock(mutex_);
  channels_[2].SetGate(false, 0);
}

std::shared_ptr<bus::Device> Pit::counter_ports() {
  return std::make_shared<PitPorts>(*this, false);
}
std::shared_ptr<bus::Device> Pit::speaker_port() {
  return std::make_shared<PitPorts>(*this, true);
}

std::chrono::nanoseconds Pit::Elapsed() const {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(clock_() - start_);
}

uint64_t Pit::Now() const {
  const auto ns = static_cast<uint64_t>(Elapsed().count());
  return ns / kNsPerSecond * kHz + ns % kNsPerSecond * kHz / kNsPerSecond;
}

uint8_t Pit::ReadCounter(uint64_t offset) {
  const MutexLock lock(mutex_);
  if (offset >= channels_.size()) return offset == kControlOffset ? 0 : 0xff;
  return channels_.at(offset).Read(Now());
}

void Pit::WriteCounter(uint64_t offset, uint8_t value) {
  const MutexLock lock(mutex_);
  if (offset == kControlOffset) {
    Control(value);
  } else if (offset < channels_.size()) {
    channels_.at(offset).Write(value, Now());
    if (offset == 0) Arm();
  }
}

void Pit::Control(uint8_t value) {
  const uint64_t now = Now();
  const unsigned selected = value >> 6;
  if (selected == kReadBack) {
    for (unsigned i = 0; i < channels_.size(); ++i) {
      if ((value & (2u << i)) == 0) continue;
      if ((value & kReadBackNoCount) == 0) channels_.at(i).LatchCount(now);
      if ((value & kReadBackNoStatus) == 0) channels_.at(i).LatchStatus(now);
    }
    return;
  }
  PitChannel& channel = channels_.at(selected);
  if ((value & 0x30) == 0) {
    channel.LatchCount(now);
    return;
  }
  channel.Configure(value & 0x3f, now);
  if (selected == 0) Arm();
}

uint8_t Pit::ReadSpeaker() {
  const MutexLock lock(mutex_);
  const uint64_t now = Now();
  uint8_t value = 0;
  if (channels_[2].gate()) value |= kSpeakerGate;
  if (speaker_on_) value |= kSpeakerData;
  if (now / kRefreshTicks % 2 != 0) value |= kSpeakerRefresh;
  if (channels_[2].Output(now)) value |= kSpeakerOutput;
  return value;
}

void Pit::WriteSpeaker(uint8_t value) {
  const MutexLock lock(mutex_);
  speaker_on_ = (value & kSpeakerData) != 0;
  channels_[2].SetGate((value & kSpeakerGate) != 0, Now());
}

void Pit::Arm() {
  next_rise_ = channels_[0].NextRise(Now());
  if (!next_rise_) {
    timer_.Cancel();
    return;
  }
  timer_.Set(std::max(ToNanoseconds(*next_rise_) - Elapsed(), kShortestPeriod));
}

void Pit::OnTimer() {
  const MutexLock lock(mutex_);
  if (!next_rise_) return;
  // A timer that was set before the guest changed its mind fires early; rises that were missed are
  // not made up for.
  if (Now() >= *next_rise_) {
    line_->Raise();
    line_->Lower();
  }
  Arm();
}

}  // namespace crosvm::platform

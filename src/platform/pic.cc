#include "platform/pic.h"

#include <utility>

namespace crosvm::platform {
namespace {

constexpr uint8_t kCascadePin = 2;
constexpr uint8_t kSpuriousPin = 7;
constexpr uint8_t kPinsPerChip = 8;

// Pins of the system timer, keyboard and cascade, and of the clock and coprocessor, are always
// edge-triggered.
constexpr uint8_t kPrimaryElcrMask = 0xf8;
constexpr uint8_t kSecondaryElcrMask = 0xde;

constexpr uint8_t kIcw1 = 0x10;
constexpr uint8_t kIcw1Wants4 = 0x01;
constexpr uint8_t kIcw4AutoEoi = 0x02;
constexpr uint8_t kIcw4SpecialFullyNested = 0x10;

constexpr uint8_t kOcw3 = 0x08;
constexpr uint8_t kOcw3Poll = 0x04;
constexpr uint8_t kOcw3ReadRegister = 0x02;
constexpr uint8_t kOcw3ReadInService = 0x01;
constexpr uint8_t kOcw3SetMask = 0x40;
constexpr uint8_t kOcw3MaskOn = 0x20;

constexpr uint8_t kPollPending = 0x80;

enum Ocw2 : uint8_t {
  kRotateOnAutoEoiOff = 0,
  kEoi = 1,
  kNothing = 2,
  kSpecificEoi = 3,
  kRotateOnAutoEoiOn = 4,
  kRotateEoi = 5,
  kSetPriority = 6,
  kRotateSpecificEoi = 7,
};

constexpr uint8_t Bit(unsigned pin) {
  return static_cast<uint8_t>(1u << pin);
}
constexpr uint8_t After(uint8_t pin) {
  return static_cast<uint8_t>((pin + 1) % kPinsPerChip);
}
constexpr uint8_t Without(uint8_t bits, uint8_t cleared) {
  return bits & static_cast<uint8_t>(~cleared);
}

}  // namespace

uint8_t Pic8259::TopPriority(uint8_t pins) const {
  for (uint8_t priority = 0; priority < kPins; ++priority) {
    if ((pins & Bit(PinAt(priority))) != 0) return priority;
  }
  return kPins;
}

void Pic8259::SetPin(uint8_t pin, bool level) {
  const uint8_t bit = Bit(pin);
  if ((elcr_ & bit) != 0) {
    requested_ = level ? requested_ | bit : Without(requested_, bit);
  } else if (level && (levels_ & bit) == 0) {
    requested_ |= bit;
  }
  levels_ = level ? levels_ | bit : Without(levels_, bit);
}

std::optional<uint8_t> Pic8259::Highest() const {
  const uint8_t wanting = TopPriority(Without(requested_, masked_));
  if (wanting == kPins) return std::nullopt;
  uint8_t blocking = in_service_;
  if (special_mask_) blocking = Without(blocking, masked_);
  // The secondary may interrupt its own handler with a more important pin.
  if (special_fully_nested_ && primary_) blocking = Without(blocking, Bit(kCascadePin));
  if (wanting >= TopPriority(blocking)) return std::nullopt;
  return PinAt(wanting);
}

void Pic8259::Acknowledge(uint8_t pin) {
  const uint8_t bit = Bit(pin);
  if (!auto_eoi_) {
    in_service_ |= bit;
  } else if (rotate_on_auto_eoi_) {
    lowest_plus_one_ = After(pin);
  }
  if ((elcr_ & bit) == 0) requested_ = Without(requested_, bit);
}

void Pic8259::WriteCommand(uint8_t value) {
  if ((value & kIcw1) != 0) {
    Initialise(value);
  } else if ((value & kOcw3) != 0) {
    if ((value & kOcw3Poll) != 0) poll_ = true;
    if ((value & kOcw3ReadRegister) != 0) read_in_service_ = (value & kOcw3ReadInService) != 0;
    if ((value & kOcw3SetMask) != 0) special_mask_ = (value & kOcw3MaskOn) != 0;
  } else {
    Operate(value);
  }
}

// 8259A data sheet, "Initialization": edges are forgotten, the mask is cleared, priorities are as
// after power-on.
void Pic8259::Initialise(uint8_t icw1) {
  requested_ &= elcr_ & levels_;
  in_service_ = 0;
  masked_ = 0;
  lowest_plus_one_ = 0;
  read_in_service_ = false;
  poll_ = false;
  special_mask_ = false;
  auto_eoi_ = false;
  rotate_on_auto_eoi_ = false;
  special_fully_nested_ = false;
  wants_icw4_ = (icw1 & kIcw1Wants4) != 0;
  step_ = Step::kIcw2;
}

void Pic8259::Operate(uint8_t ocw2) {
  const uint8_t command = ocw2 >> 5;
  const uint8_t named = ocw2 & 7;
  switch (command) {
    case kRotateOnAutoEoiOff:
    case kRotateOnAutoEoiOn:
      rotate_on_auto_eoi_ = command == kRotateOnAutoEoiOn;
      break;
    case kEoi:
    case kRotateEoi: {
      // In special mask mode a masked pin's service does not end by an EOI that names no pin.
      const uint8_t served = special_mask_ ? Without(in_service_, masked_) : in_service_;
      const uint8_t priority = TopPriority(served);
      if (priority == kPins) break;
      const uint8_t pin = PinAt(priority);
      in_service_ = Without(in_service_, Bit(pin));
      if (command == kRotateEoi) lowest_plus_one_ = After(pin);
      break;
    }
    case kSpecificEoi:
    case kRotateSpecificEoi:
      in_service_ = Without(in_service_, Bit(named));
      if (command == kRotateSpecificEoi) lowest_plus_one_ = After(named);
      break;
    case kSetPriority:
      lowest_plus_one_ = After(named);
      break;
    default:
      break;
  }
}

void Pic8259::WriteData(uint8_t value) {
  switch (step_) {
    case Step::kReady:
      masked_ = value;
      break;
    case Step::kIcw2:
      vector_base_ = value & 0xf8;
      step_ = Step::kIcw3;
      break;
    case Step::kIcw3:
      step_ = wants_icw4_ ? Step::kIcw4 : Step::kReady;
      break;  // the wiring is fixed
    case Step::kIcw4:
      auto_eoi_ = (value & kIcw4AutoEoi) != 0;
      special_fully_nested_ = (value & kIcw4SpecialFullyNested) != 0;
      step_ = Step::kReady;
      break;
  }
}

uint8_t Pic8259::Poll() {
  poll_ = false;
  const std::optional<uint8_t> pin = Highest();
  if (!pin) return 0;
  Acknowledge(*pin);
  return *pin | kPollPending;
}

uint8_t Pic8259::ReadCommand() {
  if (poll_) return Poll();
  return read_in_service_ ? in_service_ : requested_;
}

uint8_t Pic8259::ReadData() {
  return poll_ ? Poll() : masked_;
}

// One of the three port ranges.
class PicPorts : public ByteDevice {
 public:
  PicPorts(Pic& pic, Pic::Block block) : pic_(pic), block_(block) {}
  std::string_view name() const override { return "PIC"; }

 private:
  uint8_t ReadByte(uint64_t offset) override { return pic_.ReadPort(block_, offset); }
  void WriteByte(uint64_t offset, uint8_t value) override { pic_.WritePort(block_, offset, value); }

  Pic& pic_;
  const Pic::Block block_;
};

Pic::Pic(std::function<void()> request)
    : request_(std::move(request)),
      primary_(true, kPrimaryElcrMask),
      secondary_(false, kSecondaryElcrMask) {
}

std::shared_ptr<bus::Device> Pic::primary_ports() {
  return std::make_shared<PicPorts>(*this, Block::kPrimary);
}
std::shared_ptr<bus::Device> Pic::secondary_ports() {
  return std::make_shared<PicPorts>(*this, Block::kSecondary);
}
std::shared_ptr<bus::Device> Pic::trigger_ports() {
  return std::make_shared<PicPorts>(*this, Block::kTrigger);
}

void Pic::SetPin(uint32_t pin, bool level) {
  const MutexLock lock(mutex_);
  if (pin < kPinsPerChip) {
    // The cascade pin is wired to the secondary only.
    if (pin != kCascadePin) primary_.SetPin(static_cast<uint8_t>(pin), level);
  } else if (pin < 2 * kPinsPerChip) {
    secondary_.SetPin(static_cast<uint8_t>(pin - kPinsPerChip), level);
  }
  Update();
}

void Pic::Update(bool acknowledged) {
  const bool cascade = secondary_.Highest().has_value();
  // Low and high again: a further interrupt of the secondary is a new edge on the primary's pin.
  primary_.SetPin(kCascadePin, false);
  primary_.SetPin(kCascadePin, cascade);
  const bool up = primary_.Highest().has_value();
  // Once for each interrupt: when it appears, and when it is the next after one that was taken.
  if (up && (acknowledged || !output_)) request_();
  output_ = up;
}

bool Pic::pending() {
  const MutexLock lock(mutex_);
  return primary_.Highest().has_value();
}

std::optional<uint8_t> Pic::Acknowledge() {
  const MutexLock lock(mutex_);
  const std::optional<uint8_t> pin = primary_.Highest();
  if (!pin) return std::nullopt;
  primary_.Acknowledge(*pin);
  if (*pin != kCascadePin) {
    Update(true);
    return static_cast<uint8_t>(primary_.vector_base() + *pin);
  }
  // The request may have gone away between the primary's pin and the acknowledge: spurious.
  const std::optional<uint8_t> second = secondary_.Highest();
  if (second) secondary_.Acknowledge(*second);
  const auto vector =
      static_cast<uint8_t>(secondary_.vector_base() + second.value_or(kSpuriousPin));
  Update(true);
  return vector;
}

uint8_t Pic::ReadPort(Block block, uint64_t offset) {
  const MutexLock lock(mutex_);
  if (offset >= kPortLength) return 0xff;
  if (block == Block::kTrigger) return offset == 0 ? primary_.elcr() : secondary_.elcr();
  Pic8259& chip = block == Block::kPrimary ? primary_ : secondary_;
  const uint8_t value = offset == 0 ? chip.ReadCommand() : chip.ReadData();
  Update();
  return value;
}

void Pic::WritePort(Block block, uint64_t offset, uint8_t value) {
  const MutexLock lock(mutex_);
  if (offset >= kPortLength) return;
  if (block == Block::kTrigger) {
    (offset == 0 ? primary_ : secondary_).set_elcr(value);
  } else {
    Pic8259& chip = block == Block::kPrimary ? primary_ : secondary_;
    if (offset == 0) {
      chip.WriteCommand(value);
    } else {
      chip.WriteData(value);
    }
  }
  Update();
}

}  // namespace crosvm::platform

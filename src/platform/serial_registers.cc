#include "platform/serial_registers.h"

#include <algorithm>

namespace crosvm::platform {
namespace {

enum Register : uint64_t {
  kData = 0,
  kInterruptEnable = 1,
  kIdentification = 2,  // read; FIFO control when written
  kLineControl = 3,
  kModemControl = 4,
  kLineStatus = 5,
  kModemStatus = 6,
  kScratch = 7,
};

constexpr uint8_t kIerReceive = 0x01;
constexpr uint8_t kIerTransmit = 0x02;
constexpr uint8_t kIerLineStatus = 0x04;
constexpr uint8_t kIerModemStatus = 0x08;
constexpr uint8_t kIerMask = 0x0f;

constexpr uint8_t kIirNone = 0x01;
constexpr uint8_t kIirFifo = 0xc0;

constexpr uint8_t kFcrEnable = 0x01;
constexpr uint8_t kFcrClearReceive = 0x02;
constexpr uint8_t kFcrClearTransmit = 0x04;
constexpr std::array<size_t, 4> kTriggers = {1, 4, 8, 14};

constexpr uint8_t kLcrDivisorLatch = 0x80;

constexpr uint8_t kMcrDtr = 0x01;
constexpr uint8_t kMcrRts = 0x02;
constexpr uint8_t kMcrOut1 = 0x04;
constexpr uint8_t kMcrOut2 = 0x08;
constexpr uint8_t kMcrLoop = 0x10;
constexpr uint8_t kMcrMask = 0x1f;

constexpr uint8_t kLsrDataReady = 0x01;
constexpr uint8_t kLsrOverrun = 0x02;
constexpr uint8_t kLsrHoldingEmpty = 0x20;
constexpr uint8_t kLsrIdle = 0x40;

constexpr uint8_t kMsrCts = 0x10;
constexpr uint8_t kMsrDsr = 0x20;
constexpr uint8_t kMsrRing = 0x40;
constexpr uint8_t kMsrCarrier = 0x80;
constexpr uint8_t kMsrTrailingRing = 0x04;

}  // namespace

bool SerialRegisters::divisor_latch() const {
  return (line_control_ & kLcrDivisorLatch) != 0;
}
bool SerialRegisters::loopback() const {
  return (modem_control_ & kMcrLoop) != 0;
}

std::optional<SerialRegisters::Interrupt> SerialRegisters::Cause() const {
  if ((interrupt_enable_ & kIerLineStatus) != 0 && line_errors_ != 0) return Interrupt::kLineStatus;
  if ((interrupt_enable_ & kIerReceive) != 0 && !receive_.empty()) {
    // The time-out of four characters is taken as over at once: input comes in bursts, not bit by
    // bit.
    const bool reached = !fifo_enabled_ || receive_.size() >= trigger_;
    return reached ? Interrupt::kReceivedData : Interrupt::kTimeout;
  }
  if ((interrupt_enable_ & kIerTransmit) != 0 && transmitter_interrupt_) {
    return Interrupt::kTransmitterEmpty;
  }
  if ((interrupt_enable_ & kIerModemStatus) != 0 && modem_deltas_ != 0) {
    return Interrupt::kModemStatus;
  }
  return std::nullopt;
}

uint8_t SerialRegisters::Read(uint64_t offset) {
  switch (offset) {
    case kData:
      return divisor_latch() ? static_cast<uint8_t>(divisor_) : ReadData();
    case kInterruptEnable:
      return divisor_latch() ? static_cast<uint8_t>(divisor_ >> 8) : interrupt_enable_;
    case kIdentification:
      return ReadIdentification();
    case kLineControl:
      return line_control_;
    case kModemControl:
      return modem_control_;
    case kLineStatus:
      return ReadLineStatus();
    case kModemStatus:
      return ReadModemStatus();
    case kScratch:
      return scratch_;
    default:
      return 0xff;
  }
}

void SerialRegisters::Write(uint64_t offset, uint8_t value) {
  switch (offset) {
    case kData:
      if (divisor_latch()) {
        divisor_ = static_cast<uint16_t>((divisor_ & 0xff00) | value);
      } else {
        WriteData(value);
      }
      break;
    case kInterruptEnable:
      if (divisor_latch()) {
        divisor_ = static_cast<uint16_t>((divisor_ & 0x00ff) | (value << 8));
      } else {
        WriteInterruptEnable(value);
      }
      break;
    case kIdentification:
      WriteFifoControl(value);
      break;
    case kLineControl:
      line_control_ = value;
      break;
    case kModemControl:
      WriteModemControl(value);
      break;
    case kScratch:
      scratch_ = value;
      break;
    default:
      break;  // the status registers are read-only
  }
}

uint8_t SerialRegisters::ReadData() {
  if (receive_.empty()) return 0;
  const uint8_t value = receive_.front();
  receive_.pop_front();
  return value;
}

uint8_t SerialRegisters::ReadIdentification() {
  const std::optional<Interrupt> cause = Cause();
  const auto fifo = fifo_enabled_ ? kIirFifo : uint8_t{0};
  if (!cause) return kIirNone | fifo;
  if (*cause == Interrupt::kTransmitterEmpty) transmitter_interrupt_ = false;
  return static_cast<uint8_t>(*cause) | fifo;
}

uint8_t SerialRegisters::ReadLineStatus() {
  uint8_t status = line_errors_;
  line_errors_ = 0;
  if (!receive_.empty()) status |= kLsrDataReady;
  if (transmit_.empty()) status |= kLsrHoldingEmpty | kLsrIdle;
  return status;
}

uint8_t SerialRegisters::ReadModemStatus() {
  const auto status = static_cast<uint8_t>(modem_lines_ | modem_deltas_);
  modem_deltas_ = 0;
  return status;
}

void SerialRegisters::WriteData(uint8_t value) {
  transmitter_interrupt_ = false;
  if (loopback()) {
    LoopBack(value);
    transmitter_interrupt_ = true;
    return;
  }
  // A driver that ignores THRE loses what it writes; the first bytes are kept, as in the chip's
  // FIFO.
  if (transmit_.size() < capacity()) transmit_.push_back(value);
}

void SerialRegisters::LoopBack(uint8_t value) {
  if (receive_.size() < capacity()) {
    receive_.push_back(value);
    return;
  }
  line_errors_ |= kLsrOverrun;
  if (!fifo_enabled_) receive_.back() = value;  // the character in the buffer register is destroyed
}

std::optional<uint8_t> SerialRegisters::to_send() const {
  if (transmit_.empty()) return std::nullopt;
  return transmit_.front();
}

void SerialRegisters::Sent() {
  if (transmit_.empty()) return;
  transmit_.pop_front();
  if (transmit_.empty()) transmitter_interrupt_ = true;
}

size_t SerialRegisters::room() const {
  return loopback() ? 0 : capacity() - std::min(receive_.size(), capacity());
}

size_t SerialRegisters::Receive(std::span<const uint8_t> data) {
  const size_t take = std::min(data.size(), room());
  receive_.insert(receive_.end(), data.begin(), data.begin() + static_cast<ptrdiff_t>(take));
  return take;
}

void SerialRegisters::WriteInterruptEnable(uint8_t value) {
  const auto fresh = static_cast<uint8_t>(value & ~interrupt_enable_);
  interrupt_enable_ = value & kIerMask;
  // Enabling it while the transmitter is empty interrupts at once; drivers start sending that way.
  if ((fresh & kIerTransmit) != 0 && transmit_.empty()) transmitter_interrupt_ = true;
}

void SerialRegisters::WriteFifoControl(uint8_t value) {
  const bool enable = (value & kFcrEnable) != 0;
  const bool changed = enable != fifo_enabled_;
  fifo_enabled_ = enable;
  // The other bits count only while bit 0 is set; changing bit 0 empties both FIFOs.
  if (changed || (enable && (value & kFcrClearReceive) != 0)) receive_.clear();
  if ((changed || (enable && (value & kFcrClearTransmit) != 0)) && !transmit_.empty()) {
    transmit_.clear();
    transmitter_interrupt_ = true;
  }
  if (enable) trigger_ = kTriggers.at(value >> 6);
}

uint8_t SerialRegisters::ModemLines() const {
  if (!loopback()) return kMsrCarrier | kMsrDsr | kMsrCts;
  uint8_t lines = 0;
  if ((modem_control_ & kMcrRts) != 0) lines |= kMsrCts;
  if ((modem_control_ & kMcrDtr) != 0) lines |= kMsrDsr;
  if ((modem_control_ & kMcrOut1) != 0) lines |= kMsrRing;
  if ((modem_control_ & kMcrOut2) != 0) lines |= kMsrCarrier;
  return lines;
}

void SerialRegisters::WriteModemControl(uint8_t value) {
  modem_control_ = value & kMcrMask;
  const uint8_t before = modem_lines_;
  modem_lines_ = ModemLines();
  const auto changed = static_cast<uint8_t>(before ^ modem_lines_);
  modem_deltas_ |= static_cast<uint8_t>((changed & (kMsrCts | kMsrDsr | kMsrCarrier)) >> 4);
  if ((changed & before & kMsrRing) != 0) modem_deltas_ |= kMsrTrailingRing;
}

}  // namespace crosvm::platform

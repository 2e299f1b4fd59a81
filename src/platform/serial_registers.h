// The 16550A as a state machine without I/O: what the registers hold and whether the interrupt pin
// is up. Serial gives it locking, streams and a wire. (National Semiconductor PC16550D data sheet,
// section 8.)
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>

namespace crosvm::platform {

// Not thread-safe.
class SerialRegisters {
 public:
  static constexpr size_t kFifoBytes = 16;

  // `offset` 0-7; others read as 0xff and write nowhere.
  uint8_t Read(uint64_t offset);
  void Write(uint64_t offset, uint8_t value);

  // The level of the interrupt pin.
  bool interrupt() const { return Cause().has_value(); }

  // The oldest byte to be sent, until Sent(). THRE comes back once all are sent.
  std::optional<uint8_t> to_send() const;
  void Sent();

  // Received bytes from outside; returns how many fit (none in loopback mode).
  size_t Receive(std::span<const uint8_t> data);
  size_t room() const;

 private:
  enum class Interrupt : uint8_t {
    kModemStatus = 0x0,
    kTransmitterEmpty = 0x2,
    kReceivedData = 0x4,
    kLineStatus = 0x6,
    kTimeout = 0xc,
  };
  std::optional<Interrupt> Cause() const;

  uint8_t ReadData();
  uint8_t ReadIdentification();
  uint8_t ReadLineStatus();
  uint8_t ReadModemStatus();
  void WriteData(uint8_t value);
  void WriteInterruptEnable(uint8_t value);
  void WriteFifoControl(uint8_t value);
  void WriteModemControl(uint8_t value);
  void LoopBack(uint8_t value);
  uint8_t ModemLines() const;

  bool divisor_latch() const;
  bool loopback() const;
  size_t capacity() const { return fifo_enabled_ ? kFifoBytes : 1; }

  uint8_t interrupt_enable_ = 0;
  uint8_t line_control_ = 0;
  uint8_t modem_control_ =
      0x08;  // OUT2, which on a PC connects the interrupt pin; it is always connected here
  uint8_t line_errors_ = 0;  // the overrun bit of the line status, until read
  uint8_t modem_deltas_ = 0;
  uint8_t modem_lines_ = 0xb0;  // carrier, data set ready, clear to send
  uint8_t scratch_ = 0;
  uint16_t divisor_ = 12;  // 9600 baud
  bool fifo_enabled_ = false;
  size_t trigger_ = 1;
  bool transmitter_interrupt_ = false;  // pending until IIR is read or THR is written
  // At most kFifoBytes each.
  std::deque<uint8_t> receive_;
  std::deque<uint8_t> transmit_;
};

}  // namespace crosvm::platform

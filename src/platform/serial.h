// A serial port of the PC: 16550A registers on a bus, a wire to the interrupt controller, and two
// character streams. In the VMM; the registers are touched by vCPU threads, the streams call back
// on the main loop's thread.
#pragma once

#include <memory>
#include <string>

#include "base/mutex.h"
#include "bus/interrupt_line.h"
#include "chardev/open.h"
#include "platform/byte_port.h"
#include "platform/serial_registers.h"

namespace crosvm::platform {

// 8 byte registers. Output that the sink cannot take stays in the transmitter, and THRE comes back
// when it is gone: a stuck terminal holds back a guest that waits for THRE and loses the output of
// one that does not, but never holds a vCPU. Input is taken only as far as the FIFO has room.
class Serial : public ByteDevice {
 public:
  static constexpr uint64_t kLength = 8;

  // `name` is for messages: "serial 1". `line` may be shared with another port (COM1 and COM3).
  // Made and destroyed on the thread of the loop that `streams` use.
  Serial(std::string name, std::shared_ptr<bus::InterruptLine> line, chardev::CharStreams streams);
  ~Serial() override;

  // Begins to take input. Once, on the loop's thread.
  void Start();
  // Puts out what the sink holds, at the end of the VM; on the loop's thread.
  void Finish(std::chrono::milliseconds timeout);

  std::string_view name() const override { return name_; }

 private:
  uint8_t ReadByte(uint64_t offset) override;
  void WriteByte(uint64_t offset, uint8_t value) override;

  void Send() CROSVM_REQUIRES(mutex_);
  void UpdateLine() CROSVM_REQUIRES(mutex_);
  void WantInput() CROSVM_REQUIRES(mutex_);

  const std::string name_;
  const std::shared_ptr<bus::InterruptLine> line_;
  // Thread-safe in what is used here.
  const chardev::CharStreams streams_;

  Mutex mutex_;
  SerialRegisters registers_ CROSVM_GUARDED_BY(mutex_);
  bool line_up_ CROSVM_GUARDED_BY(mutex_) = false;
  bool input_waits_ CROSVM_GUARDED_BY(mutex_) =
      false;  // the source offered more than there was room for
};

}  // namespace crosvm::platform

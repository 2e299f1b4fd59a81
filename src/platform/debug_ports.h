// Ports by which firmware and kernels talk to the operator: the debug console and the panic
// notifier. In the VMM.
#pragma once

#include <memory>

#include "chardev/char_sink.h"
#include "platform/byte_port.h"
#include "platform/vm_events.h"

namespace crosvm::platform {

// Each byte written is output; reads 0xe9, by which a guest recognises it. What the sink has no
// room for is dropped.
class DebugConsole : public ByteDevice {
 public:
  static constexpr uint64_t kLength = 1;
  // Not null. Destroyed on the thread of the sink's loop.
  explicit DebugConsole(std::unique_ptr<chardev::CharSink> sink) : sink_(std::move(sink)) {}
  std::string_view name() const override { return "debugcon"; }

 private:
  uint8_t ReadByte(uint64_t offset) override;
  void WriteByte(uint64_t offset, uint8_t value) override;
  const std::unique_ptr<chardev::CharSink> sink_;
};

// The ISA form of pvpanic: reads the supported events (bit 0 panicked, bit 1 crash-loaded); writing
// one reports it.
class PvPanic : public ByteDevice {
 public:
  static constexpr uint64_t kLength = 1;
  // `events` outlives the device.
  explicit PvPanic(VmEvents& events) : events_(events) {}
  std::string_view name() const override { return "pvpanic"; }

 private:
  uint8_t ReadByte(uint64_t offset) override;
  void WriteByte(uint64_t offset, uint8_t value) override;
  VmEvents& events_;
};

}  // namespace crosvm::platform

// The two classic ways to reset a PC: the keyboard controller's pulse and the chipset's reset
// register. In the VMM.
#pragma once

#include <memory>

#include "platform/byte_port.h"
#include "platform/vm_events.h"

namespace crosvm::platform {

// One of the keyboard controller's two ports (0x60 data, 0x64 status and command; make one of
// each). There is no keyboard: the status shows a full output buffer for ever, at which a driver
// that flushes it gives up at once, and an empty input buffer, so that a command (the reset pulse)
// is sent without waiting.
class I8042Port : public ByteDevice {
 public:
  static constexpr uint64_t kLength = 1;
  enum class Port : uint8_t { kData, kCommand };

  // `events` outlives the device.
  I8042Port(Port port, VmEvents& events) : port_(port), events_(events) {}
  std::string_view name() const override { return "i8042"; }

 private:
  uint8_t ReadByte(uint64_t offset) override;
  void WriteByte(uint64_t offset, uint8_t value) override;

  const Port port_;
  VmEvents& events_;
};

// Reset register 0xcf9. It lies inside the range of PCI configuration mechanism 1 (0xcf8-0xcff), so
// this device covers all of that range: byte accesses to offset 1 are the reset register,
// everything else goes to `config`.
class ResetRegister : public bus::Device {
 public:
  static constexpr uint64_t kLength = 8;

  // `config` may be null: the rest then reads as all ones. `events` outlives the device.
  ResetRegister(std::shared_ptr<bus::Device> config, VmEvents& events)
      : config_(std::move(config)), events_(events) {}
  std::string_view name() const override { return "reset register"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

 private:
  const std::shared_ptr<bus::Device> config_;
  VmEvents& events_;
};

}  // namespace crosvm::platform

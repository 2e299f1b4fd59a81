// A device of byte-wide registers. As on the ISA bus, a wider access is one access to each byte's
// register in turn.
#pragma once

#include <cstdint>
#include <span>

#include "bus/device.h"

namespace crosvm::platform {

class ByteDevice : public bus::Device {
 public:
  void Read(uint64_t offset, std::span<uint8_t> data) final {
    for (uint8_t& byte : data) byte = ReadByte(offset++);
  }
  void Write(uint64_t offset, std::span<const uint8_t> data) final {
    for (const uint8_t byte : data) WriteByte(offset++, byte);
  }

 protected:
  // TRUST: offsets beyond the device's registers are possible; they read as 0xff and write nowhere.
  virtual uint8_t ReadByte(uint64_t offset) = 0;
  virtual void WriteByte(uint64_t offset, uint8_t value) = 0;
};

}  // namespace crosvm::platform

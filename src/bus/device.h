// What sits on a bus: a range of port I/O or MMIO that answers reads and writes of a vCPU.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace crosvm::bus {

// Called on vCPU threads, several at once: an implementation with state locks it. Does not block on
// a device process but where its header says so. `offset` is relative to the start of the mapped
// range; data is 1 to 8 bytes and lies wholly in the range. TRUST: offset alignment and size are
// the guest's choice.
class Device {
 public:
  virtual ~Device() = default;
  virtual std::string_view name() const = 0;
  // Fills all of `data`, with all ones or zeroes where nothing is.
  virtual void Read(uint64_t offset, std::span<uint8_t> data) = 0;
  virtual void Write(uint64_t offset, std::span<const uint8_t> data) = 0;
};

}  // namespace crosvm::bus

// The 256 bytes of configuration registers of one PCI function (type 0 header), as data: what each
// byte holds and which of its bits the guest may change. Knows nothing of buses; moved BARs come
// back as values. Runs in the VMM; the owner (Function, under its Root's lock) serialises.
#pragma once

#include <linux/pci_regs.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "base/result.h"

namespace crosvm::pci {

inline constexpr uint8_t kBarCount = 6;

// What a function says it is. PCI 3.0, 6.2.1.
struct Identity {
  uint16_t vendor = 0;
  uint16_t device = 0;
  uint16_t subsystem_vendor = 0;
  uint16_t subsystem = 0;
  uint8_t revision = 0;
  uint8_t base_class = 0;
  uint8_t sub_class = 0;
  uint8_t programming_interface = 0;
};

enum class BarKind : uint8_t { kMemory32, kMemory64, kIo };

struct BarSpec {
  BarKind kind = BarKind::kMemory32;
  uint64_t size = 0;  // a power of two: memory from 16, I/O from 4 to 256 bytes
  bool prefetchable = false;
  friend bool operator==(const BarSpec&, const BarSpec&) = default;
};

// Where a BAR decodes after a write: nowhere when the command register switches its space off.
struct BarChange {
  uint8_t bar = 0;
  std::optional<uint64_t> base;
};

// At most one change for each BAR; a small vector without allocation.
class BarChanges {
 public:
  void Push(const BarChange& change) { changes_[count_++] = change; }
  const BarChange* begin() const { return changes_.data(); }
  const BarChange* end() const { return changes_.data() + count_; }
  size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }

 private:
  std::array<BarChange, kBarCount> changes_{};
  size_t count_ = 0;
};

class ConfigSpace {
 public:
  static constexpr uint32_t kSize = 256;

  explicit ConfigSpace(const Identity& identity);

  // A 64-bit BAR takes `index` and the register after it. kInvalidArgument for a bad size or a
  // taken register.
  Status AddBar(uint8_t index, const BarSpec& spec);
  // Appends a capability whose bytes after the two of its header are `body`; set bits of `writable`
  // (as long as `body`, or empty) may be changed by the guest. Returns the offset of the header.
  // kInvalidArgument when it does not fit.
  Result<uint8_t> AddCapability(uint8_t id, std::span<const uint8_t> body,
                                std::span<const uint8_t> writable = {});
  // Programs a BAR as firmware would. The address is a multiple of its size.
  Status SetBarAddress(uint8_t index, uint64_t address);
  // `pin`: 0 none, 1 INTA … 4 INTD; `line` is what firmware tells the guest (8259 input).
  void SetInterrupt(uint8_t line, uint8_t pin);

  // TRUST: any offset and length; bytes beyond the 256 (extended space) read as zero and ignore
  // writes.
  void Read(uint32_t offset, std::span<uint8_t> data) const;
  // Returns the BARs that decode elsewhere than before.
  BarChanges Write(uint32_t offset, std::span<const uint8_t> data);

  // Null when there is no such BAR (also for the upper half of a 64-bit one).
  const BarSpec* bar(uint8_t index) const;
  // What is programmed, whether decoded or not. REQUIRES: bar(index).
  uint64_t BarAddress(uint8_t index) const;
  // Where the BAR answers now: empty when its space is disabled in the command register.
  std::optional<uint64_t> Decoded(uint8_t index) const;
  uint16_t command() const { return Load16(PCI_COMMAND); }

  // Registers as little-endian values, for the device's side. REQUIRES: inside the 256 bytes.
  uint8_t Load8(uint32_t offset) const;
  uint16_t Load16(uint32_t offset) const;
  uint32_t Load32(uint32_t offset) const;

 private:
  void Store(uint32_t offset, uint64_t value, size_t bytes);
  void SetWritable(uint32_t offset, uint64_t mask, size_t bytes);

  std::array<uint8_t, kSize> bytes_{};
  std::array<uint8_t, kSize> writable_{};
  std::array<std::optional<BarSpec>, kBarCount> bars_{};
  std::array<bool, kBarCount> taken_{};
  uint32_t next_capability_ = 0x40;
  uint32_t last_link_ = PCI_CAPABILITY_LIST;  // the byte that will point to the next capability
};

}  // namespace crosvm::pci

// The register file of MSI-X (PCI 3.0, 6.8.2): table, pending bits and the two control bits,
// without any interrupt. The owner (Interrupts) locks and acts on what changed.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "hypervisor/irq_routing.h"

namespace crosvm::pci {

inline constexpr uint16_t kMaxMsixVectors = 2048;
inline constexpr uint32_t kMsixEntrySize = 16;

class Msix {
 public:
  // 1 to kMaxMsixVectors; all are masked.
  explicit Msix(uint16_t vectors);

  uint16_t vectors() const { return static_cast<uint16_t>(entries_.size()); }
  bool enabled() const { return enabled_; }
  bool function_masked() const { return function_masked_; }
  void SetControl(bool enabled, bool function_masked);

  // TRUST: offset and length are the guest's. Reads give the bytes of the table, and zero outside.
  // Writes are defined for aligned 4 and 8 bytes alone; the vector that one has touched comes back.
  void ReadTable(uint64_t offset, std::span<uint8_t> data) const;
  std::optional<uint16_t> WriteTable(uint64_t offset, std::span<const uint8_t> data);
  void ReadPending(uint64_t offset, std::span<uint8_t> data) const;

  // REQUIRES: vector < vectors() for all of these.
  bool masked(uint16_t vector) const { return function_masked_ || entries_[vector].masked; }
  const hypervisor::MsiMessage& message(uint16_t vector) const { return entries_[vector].message; }
  bool pending(uint16_t vector) const { return entries_[vector].pending; }
  void SetPending(uint16_t vector, bool pending) { entries_[vector].pending = pending; }

  void ClearPending();

 private:
  struct Entry {
    hypervisor::MsiMessage message;
    bool masked = true;
    bool pending = false;
  };
  uint32_t Word(uint64_t index) const;
  void SetWord(uint64_t index, uint32_t value);

  std::vector<Entry> entries_;
  bool enabled_ = false;
  bool function_masked_ = false;
};

}  // namespace crosvm::pci

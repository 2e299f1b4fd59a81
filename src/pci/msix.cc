#include "pci/msix.h"

#include <cstring>

#include "base/check.h"
#include "base/endian.h"

namespace crosvm::pci {
namespace {

constexpr uint64_t kWordsPerEntry = kMsixEntrySize / 4;

}  // namespace

Msix::Msix(uint16_t vectors) {
  CHECK(vectors > 0 && vectors <= kMaxMsixVectors, "{} vectors", vectors);
  entries_.resize(vectors);
}

void Msix::SetControl(bool enabled, bool function_masked) {
  enabled_ = enabled;
  function_masked_ = function_masked;
}

uint32_t Msix::Word(uint64_t index) const {
  const Entry& entry = entries_[index / kWordsPerEntry];
  switch (index % kWordsPerEntry) {
    case 0:
      return static_cast<uint32_t>(entry.message.address);
    case 1:
      return static_cast<uint32_t>(entry.message.address >> 32);
    case 2:
      return entry.message.data;
    default:
      return entry.masked ? 1 : 0;
  }
}

void Msix::SetWord(uint64_t index, uint32_t value) {
  Entry& entry = entries_[index / kWordsPerEntry];
  switch (index % kWordsPerEntry) {
    case 0:
      // The lowest two bits must be zero for a dword-aligned message. PCI 3.0, 6.8.2.7.
      entry.message.address = (entry.message.address & ~uint64_t{0xffff'ffff}) | (value & ~3U);
      break;
    case 1:
      entry.message.address = (entry.message.address & 0xffff'ffff) | (uint64_t{value} << 32);
      break;
    case 2:
      entry.message.data = value;
      break;
    default:
      entry.masked = (value & 1) != 0;
  }
}

void Msix::ReadTable(uint64_t offset, std::span<uint8_t> data) const {
  const uint64_t size = entries_.size() * kMsixEntrySize;
  for (size_t i = 0; i < data.size(); ++i) {
    const uint64_t at = offset + i;
    data[i] = at < size ? static_cast<uint8_t>(Word(at / 4) >> (8 * (at % 4))) : uint8_t{0};
  }
}

std::optional<uint16_t> Msix::WriteTable(uint64_t offset, std::span<const uint8_t> data) {
  if ((data.size() != 4 && data.size() != 8) || offset % data.size() != 0) return std::nullopt;
  const uint64_t size = entries_.size() * kMsixEntrySize;
  // Entries are 16 bytes, so an aligned access never spans two of them.
  if (offset >= size) return std::nullopt;
  for (size_t i = 0; i < data.size(); i += 4) {
    Le32 value;
    std::memcpy(&value, data.data() + i, sizeof(value));
    SetWord((offset + i) / 4, value);
  }
  return static_cast<uint16_t>(offset / kMsixEntrySize);
}

void Msix::ReadPending(uint64_t offset, std::span<uint8_t> data) const {
  for (size_t i = 0; i < data.size(); ++i) {
    const uint64_t first = (offset + i) * 8;
    uint8_t bits = 0;
    for (uint64_t bit = 0; bit < 8 && first + bit < entries_.size(); ++bit) {
      if (entries_[first + bit].pending) bits = static_cast<uint8_t>(bits | (1U << bit));
    }
    data[i] = bits;
  }
}

void Msix::ClearPending() {
  for (Entry& entry : entries_) entry.pending = false;
}

}  // namespace crosvm::pci

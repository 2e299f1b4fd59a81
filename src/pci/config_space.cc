#include "pci/config_space.h"

#include <bit>

#include "base/check.h"

namespace crosvm::pci {
namespace {

constexpr uint32_t BarOffset(uint8_t index) {
  return PCI_BASE_ADDRESS_0 + uint32_t{4} * index;
}

// The flag bits at the bottom of a BAR. PCI 3.0, 6.2.5.1.
constexpr uint32_t BarFlags(const BarSpec& spec) {
  switch (spec.kind) {
    case BarKind::kIo:
      return PCI_BASE_ADDRESS_SPACE_IO;
    case BarKind::kMemory64:
      return PCI_BASE_ADDRESS_MEM_TYPE_64 | (spec.prefetchable ? PCI_BASE_ADDRESS_MEM_PREFETCH : 0);
    case BarKind::kMemory32:
      break;
  }
  return spec.prefetchable ? PCI_BASE_ADDRESS_MEM_PREFETCH : 0;
}

bool SizeIsValid(const BarSpec& spec) {
  if (!std::has_single_bit(spec.size)) return false;
  switch (spec.kind) {
    case BarKind::kIo:
      return spec.size >= 4 && spec.size <= 256;
    case BarKind::kMemory32:
      return spec.size >= 16 && spec.size <= (uint64_t{1} << 31);
    case BarKind::kMemory64:
      return spec.size >= 16;
  }
  return false;
}

constexpr uint16_t kWritableCommand = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
                                      PCI_COMMAND_PARITY | PCI_COMMAND_SERR |
                                      PCI_COMMAND_INTX_DISABLE;

}  // namespace

ConfigSpace::ConfigSpace(const Identity& identity) {
  Store(PCI_VENDOR_ID, identity.vendor, 2);
  Store(PCI_DEVICE_ID, identity.device, 2);
  Store(PCI_REVISION_ID, identity.revision, 1);
  Store(PCI_CLASS_PROG, identity.programming_interface, 1);
  Store(PCI_CLASS_DEVICE, identity.sub_class, 1);
  Store(PCI_CLASS_DEVICE + 1, identity.base_class, 1);
  Store(PCI_SUBSYSTEM_VENDOR_ID, identity.subsystem_vendor, 2);
  Store(PCI_SUBSYSTEM_ID, identity.subsystem, 2);
  SetWritable(PCI_COMMAND, kWritableCommand, 2);
  SetWritable(PCI_CACHE_LINE_SIZE, 0xff, 1);
  SetWritable(PCI_INTERRUPT_LINE, 0xff, 1);
}

Status ConfigSpace::AddBar(uint8_t index, const BarSpec& spec) {
  const uint8_t registers = spec.kind == BarKind::kMemory64 ? 2 : 1;
  if (index >= kBarCount || index + registers > kBarCount) {
    return Fail(ErrorKind::kInvalidArgument, "BAR {} does not exist", index);
  }
  if (!SizeIsValid(spec)) {
    return Fail(ErrorKind::kInvalidArgument, "BAR {} cannot have {:#x} bytes", index, spec.size);
  }
  for (uint8_t i = index; i < index + registers; ++i) {
    if (taken_[i]) return Fail(ErrorKind::kInvalidArgument, "BAR {} is used twice", i);
  }
  for (uint8_t i = index; i < index + registers; ++i) taken_[i] = true;
  bars_[index] = spec;
  const uint64_t address_mask = ~(spec.size - 1);
  Store(BarOffset(index), BarFlags(spec), 4);
  if (spec.kind == BarKind::kIo) {
    // I/O space has 16 address lines here; the upper half of the register is hardwired to zero
    // (PCI 3.0, 6.2.5.1).
    SetWritable(BarOffset(index), address_mask & 0xffff, 4);
  } else {
    SetWritable(BarOffset(index), address_mask & 0xffff'ffff, 4);
    if (registers == 2) SetWritable(BarOffset(index) + 4, address_mask >> 32, 4);
  }
  return {};
}

Result<uint8_t> ConfigSpace::AddCapability(uint8_t id, std::span<const uint8_t> body,
                                           std::span<const uint8_t> writable) {
  if (!writable.empty() && writable.size() != body.size()) {
    return Fail(ErrorKind::kInvalidArgument, "capability {:#x}: the mask has another length", id);
  }
  const uint32_t offset = next_capability_;
  const size_t length = body.size() + 2;
  if (length > kSize - offset) {
    return Fail(ErrorKind::kInvalidArgument,
                "capability {:#x} does not fit in the configuration space", id);
  }
  Store(last_link_, offset, 1);
  Store(offset + PCI_CAP_LIST_ID, id, 1);
  for (size_t i = 0; i < body.size(); ++i) bytes_[offset + 2 + i] = body[i];
  for (size_t i = 0; i < writable.size(); ++i) writable_[offset + 2 + i] = writable[i];
  Store(PCI_STATUS, Load16(PCI_STATUS) | PCI_STATUS_CAP_LIST, 2);
  last_link_ = offset + PCI_CAP_LIST_NEXT;
  next_capability_ = static_cast<uint32_t>((offset + length + 3) & ~size_t{3});
  return static_cast<uint8_t>(offset);
}

Status ConfigSpace::SetBarAddress(uint8_t index, uint64_t address) {
  const BarSpec* const spec = bar(index);
  if (spec == nullptr) return Fail(ErrorKind::kInvalidArgument, "BAR {} does not exist", index);
  const uint64_t limit = spec->kind == BarKind::kIo         ? 0x1'0000
                         : spec->kind == BarKind::kMemory32 ? 0x1'0000'0000
                                                            : 0;
  if ((address & (spec->size - 1)) != 0) {
    return Fail(ErrorKind::kInvalidArgument, "BAR {}: {:#x} is not aligned to {:#x}", index,
                address, spec->size);
  }
  // The end is exclusive; for a 64-bit BAR limit is 2^64, that is 0 in this arithmetic.
  if (limit != 0 && (address >= limit || spec->size > limit - address)) {
    return Fail(ErrorKind::kInvalidArgument, "BAR {}: {:#x} is out of reach", index, address);
  }
  const uint32_t flags = BarFlags(*spec);
  Store(BarOffset(index), (address & 0xffff'ffff) | flags, 4);
  if (spec->kind == BarKind::kMemory64) Store(BarOffset(index) + 4, address >> 32, 4);
  return {};
}

void ConfigSpace::SetInterrupt(uint8_t line, uint8_t pin) {
  Store(PCI_INTERRUPT_LINE, line, 1);
  Store(PCI_INTERRUPT_PIN, pin, 1);
}

void ConfigSpace::Read(uint32_t offset, std::span<uint8_t> data) const {
  for (size_t i = 0; i < data.size(); ++i) {
    const uint64_t at = uint64_t{offset} + i;
    data[i] = at < kSize ? bytes_[at] : uint8_t{0};
  }
}

BarChanges ConfigSpace::Write(uint32_t offset, std::span<const uint8_t> data) {
  std::array<std::optional<uint64_t>, kBarCount> before;
  for (uint8_t i = 0; i < kBarCount; ++i) before[i] = Decoded(i);
  for (size_t i = 0; i < data.size(); ++i) {
    const uint64_t at = uint64_t{offset} + i;
    if (at >= kSize) break;
    const uint8_t mask = writable_[at];
    bytes_[at] = static_cast<uint8_t>((bytes_[at] & ~mask) | (data[i] & mask));
  }
  BarChanges changes;
  for (uint8_t i = 0; i < kBarCount; ++i) {
    const std::optional<uint64_t> after = Decoded(i);
    if (after != before[i]) changes.Push({.bar = i, .base = after});
  }
  return changes;
}

const BarSpec* ConfigSpace::bar(uint8_t index) const {
  return index < kBarCount && bars_[index] ? &*bars_[index] : nullptr;
}

uint64_t ConfigSpace::BarAddress(uint8_t index) const {
  const BarSpec* const spec = bar(index);
  CHECK(spec != nullptr);
  uint64_t raw = Load32(BarOffset(index));
  if (spec->kind == BarKind::kMemory64) raw |= uint64_t{Load32(BarOffset(index) + 4)} << 32;
  return raw & ~(spec->size - 1);
}

std::optional<uint64_t> ConfigSpace::Decoded(uint8_t index) const {
  const BarSpec* const spec = bar(index);
  if (spec == nullptr) return std::nullopt;
  const uint16_t enable = spec->kind == BarKind::kIo ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
  if ((command() & enable) == 0) return std::nullopt;
  return BarAddress(index);
}

uint8_t ConfigSpace::Load8(uint32_t offset) const {
  CHECK(offset < kSize);
  return bytes_[offset];
}

uint16_t ConfigSpace::Load16(uint32_t offset) const {
  return static_cast<uint16_t>(Load8(offset) | (Load8(offset + 1) << 8));
}

uint32_t ConfigSpace::Load32(uint32_t offset) const {
  return Load16(offset) | (uint32_t{Load16(offset + 2)} << 16);
}

void ConfigSpace::Store(uint32_t offset, uint64_t value, size_t bytes) {
  CHECK(offset + bytes <= kSize);
  for (size_t i = 0; i < bytes; ++i) bytes_[offset + i] = static_cast<uint8_t>(value >> (8 * i));
}

void ConfigSpace::SetWritable(uint32_t offset, uint64_t mask, size_t bytes) {
  CHECK(offset + bytes <= kSize);
  for (size_t i = 0; i < bytes; ++i) writable_[offset + i] = static_cast<uint8_t>(mask >> (8 * i));
}

}  // namespace crosvm::pci

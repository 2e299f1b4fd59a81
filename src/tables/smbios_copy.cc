// SMBIOS tables copied from a machine (--dmi).
#include <algorithm>

#include "base/check.h"
#include "tables/smbios.h"

namespace crosvm::tables {
namespace {

constexpr size_t kEntry64Size = 24;
constexpr size_t kEntry32Size = 31;
constexpr uint8_t kEndOfTable = 127;

bool StartsWith(std::span<const uint8_t> bytes, std::string_view text) {
  return bytes.size() >= text.size() &&
         std::equal(text.begin(), text.end(), bytes.begin(),
                    [](char a, uint8_t b) { return static_cast<uint8_t>(a) == b; });
}

// The number of bytes up to and with the end-of-table structure (or all of them, when the table
// ends with its last structure). TRUST: every length is checked against what is left.
Result<size_t> MeasureStructures(std::span<const uint8_t> all) {
  size_t at = 0;
  while (all.size() - at >= 4) {
    const uint8_t type = all[at];
    const size_t formatted = all[at + 1];
    if (formatted < 4 || formatted > all.size() - at) {
      return Fail(ErrorKind::kInvalidArgument, "DMI: the structure at byte {} has length {}", at,
                  formatted);
    }
    size_t end = at + formatted;
    while (end + 1 < all.size() && (all[end] != 0 || all[end + 1] != 0)) ++end;
    if (end + 1 >= all.size()) {
      return Fail(ErrorKind::kInvalidArgument, "DMI: the structure at byte {} has no end", at);
    }
    at = end + 2;
    if (type == kEndOfTable) break;
  }
  if (at == 0) return Fail(ErrorKind::kInvalidArgument, "DMI: there is no structure in it");
  return at;
}

Result<Bytes> Entry64(std::span<const uint8_t> entry, size_t size, uint64_t address) {
  if (entry.size() < kEntry64Size || entry[6] != kEntry64Size) {
    return Fail(ErrorKind::kInvalidArgument,
                "smbios_entry_point: a 64-bit entry point has 24 bytes, this one has {}",
                entry.size());
  }
  ByteWriter out;
  out.Append(entry.first(12)).U32(static_cast<uint32_t>(size)).U64(address);
  out.PatchU8(5, 0);
  out.PatchU8(5, Checksum(out.bytes()));
  return std::move(out).Take();
}

Result<Bytes> Entry32(std::span<const uint8_t> entry, size_t size, uint64_t address) {
  constexpr size_t kIntermediate = 16;
  if (entry.size() < kEntry32Size || entry[5] != kEntry32Size ||
      !StartsWith(entry.subspan(kIntermediate), "_DMI_")) {
    return Fail(ErrorKind::kInvalidArgument,
                "smbios_entry_point: a 32-bit entry point has 31 bytes and _DMI_ in it");
  }
  if (size > 0xffff) {
    return Fail(ErrorKind::kInvalidArgument, "DMI: {} bytes are too many for a 32-bit entry point",
                size);
  }
  ByteWriter out;
  out.Append(entry.first(kEntry32Size));
  out.PatchU16(22, static_cast<uint16_t>(size));
  out.PatchU32(24, static_cast<uint32_t>(address));
  out.PatchU8(21, 0);
  out.PatchU8(21, Checksum(out.bytes().subspan(kIntermediate)));
  out.PatchU8(4, 0);
  out.PatchU8(4, Checksum(out.bytes()));
  return std::move(out).Take();
}

}  // namespace

Result<Bytes> RelocateSmbios(std::span<const uint8_t> entry_point,
                             std::span<const uint8_t> structures, uint64_t base, uint64_t limit) {
  CHECK(base + kSmbiosStructuresOffset <= 0xffff'ffff);
  const size_t size = TRY(MeasureStructures(structures));
  if (size + kSmbiosStructuresOffset > limit) {
    return Fail(ErrorKind::kInvalidArgument, "DMI: {} bytes, but there is room for {} only", size,
                limit - std::min(limit, kSmbiosStructuresOffset));
  }
  const uint64_t address = base + kSmbiosStructuresOffset;
  Bytes entry;
  if (StartsWith(entry_point, "_SM3_")) {
    entry = TRY(Entry64(entry_point, size, address));
  } else if (StartsWith(entry_point, "_SM_")) {
    entry = TRY(Entry32(entry_point, size, address));
  } else {
    return Fail(ErrorKind::kInvalidArgument,
                "smbios_entry_point: it starts with neither _SM3_ nor _SM_");
  }
  ByteWriter image;
  image.Append(entry).Zero(kSmbiosStructuresOffset - entry.size()).Append(structures.first(size));
  return std::move(image).Take();
}

}  // namespace crosvm::tables

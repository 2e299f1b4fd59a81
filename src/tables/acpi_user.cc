// Tables that the user hands in (--acpi-table).
#include <algorithm>

#include "base/check.h"
#include "tables/acpi.h"

namespace crosvm::tables {
namespace {

constexpr size_t kMaxTable = 1 << 20;

bool IsSignatureChar(uint8_t c) {
  return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

}  // namespace

Result<AcpiTable> ParseAcpiTable(Bytes file) {
  if (file.size() < kAcpiHeaderSize || file.size() > kMaxTable) {
    return Fail(ErrorKind::kInvalidArgument,
                "{} bytes is not the size of an ACPI table (36 bytes to 1 MiB)", file.size());
  }
  AcpiTable table;
  for (size_t i = 0; i < table.signature.size(); ++i) {
    if (!IsSignatureChar(file[i])) {
      return Fail(ErrorKind::kInvalidArgument,
                  "no ACPI table: it does not start with a signature of four letters");
    }
    table.signature[i] = static_cast<char>(file[i]);
  }
  const std::string_view name = table.name();
  if (name == "RSDT" || name == "XSDT" || name == "FACS") {
    return Fail(ErrorKind::kInvalidArgument, "a table {} cannot be replaced", name);
  }
  const uint32_t length = LoadU32(file, 4);
  if (length != file.size()) {
    return Fail(ErrorKind::kInvalidArgument, "table {}: its header says {} bytes, the file has {}",
                name, length, file.size());
  }
  if (const uint8_t sum = ByteSum(file); sum != 0) {
    return Fail(ErrorKind::kInvalidArgument,
                "table {}: the checksum is wrong (sum is {:#x}, not 0)", name, sum);
  }
  table.bytes = std::move(file);
  return table;
}

std::vector<AcpiInterruptOverride> OverridesOf(const AcpiTable& madt) {
  constexpr size_t kEntries = kAcpiHeaderSize + 8;
  constexpr uint8_t kOverrideType = 2;
  constexpr uint8_t kOverrideLength = 10;
  std::vector<AcpiInterruptOverride> out;
  std::span<const uint8_t> rest(madt.bytes);
  if (rest.size() < kEntries) return out;
  rest = rest.subspan(kEntries);
  // TRUST: lengths come from the user's file; one below 2 would never end, one beyond the table is
  // cut short.
  while (rest.size() >= 2 && rest[1] >= 2 && rest[1] <= rest.size()) {
    if (rest[0] == kOverrideType && rest[1] >= kOverrideLength) {
      out.push_back({.isa_irq = rest[3], .gsi = LoadU32(rest, 4), .flags = LoadU16(rest, 8)});
    }
    rest = rest.subspan(rest[1]);
  }
  return out;
}

}  // namespace crosvm::tables

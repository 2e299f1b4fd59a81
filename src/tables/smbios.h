// SMBIOS 3.2 (DMTF DSP0134): who made this machine, for guests that ask. Pure; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tables/byte_writer.h"

namespace crosvm::tables {

struct SmbiosMemoryRange {
  uint64_t start = 0;
  uint64_t size = 0;
};

struct SmbiosConfig {
  std::string bios_vendor = "crosvm";
  std::string bios_version = "0";
  std::string manufacturer = "ChromiumOS";
  std::string product = "crosvm";
  std::string version;
  std::string serial;
  std::array<uint8_t, 16>
      uuid{};  // as on the wire: the first three fields little-endian; all zero: not set
  uint32_t cpu_cores = 1;
  uint32_t cpu_threads = 1;            // in all, not for each core
  std::string cpu_brand;               // of CPUID
  uint64_t cpu_id = 0;                 // CPUID leaf 1: eax, then edx
  std::vector<SmbiosMemoryRange> ram;  // sorted
  std::vector<std::string> oem_strings;
};

// Entry point and structures as one image for guest-physical `base`.
// Errors (kInvalidArgument): larger than `limit`; a string with NUL; more than 255 OEM strings.
Result<Bytes> BuildSmbios(const SmbiosConfig& config, uint64_t base, uint64_t limit);

// A machine's own tables (`--dmi DIR`: the files smbios_entry_point and DMI of
// /sys/firmware/dmi/tables), moved to `base`: the entry point with address and checksums made anew,
// then the structures. Understands the 64-bit (_SM3_) and the 32-bit (_SM_) entry point. Errors:
// kInvalidArgument, saying which file is wrong.
Result<Bytes> RelocateSmbios(std::span<const uint8_t> entry_point,
                             std::span<const uint8_t> structures, uint64_t base, uint64_t limit);

// Parses "00112233-4455-6677-8899-aabbccddeeff" into the wire form.
std::optional<std::array<uint8_t, 16>> ParseSmbiosUuid(std::string_view text);

// The distance of the structures from the entry point.
inline constexpr uint64_t kSmbiosStructuresOffset = 32;

}  // namespace crosvm::tables

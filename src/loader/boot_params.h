// The zero page of the x86 boot protocol, and the memory map that it and PVH show.
#pragma once

#include <asm/bootparam.h>

#include <cstdint>
#include <optional>
#include <span>

#include "base/result.h"
#include "loader/file_range.h"
#include "memory/guest_memory.h"

namespace crosvm::loader {

// E820 types of the ACPI specification (15.1); PVH uses the same numbers.
enum class MemoryType : uint32_t {
  kRam = 1,
  kReserved = 2,
  kAcpi = 3,
  kAcpiNvs = 4,
  kUnusable = 5
};

struct MemoryMapEntry {
  GuestRange range;
  MemoryType type = MemoryType::kRam;
};

struct BootParamsInput {
  // The bzImage's header; empty for a vmlinux.
  std::optional<setup_header> header;
  memory::GuestAddr cmdline;  // NUL-terminated
  uint32_t cmdline_size = 0;  // with the NUL
  std::optional<GuestRange> initrd;
  memory::GuestAddr setup_data;  // first of the list; 0: none
  memory::GuestAddr rsdp;        // 0: the guest looks for it
  std::span<const MemoryMapEntry> memory_map;
};

// kInvalidArgument for more than 128 map entries.
Result<boot_params> BuildBootParams(const BootParamsInput& input);
Status WriteBootParams(const memory::GuestMemory& memory, memory::GuestAddr at,
                       const boot_params& params);

}  // namespace crosvm::loader

// The PVH boot protocol: the start info that %ebx points to at the 32-bit entry, in the layout of
// Xen's public ABI.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "base/endian.h"
#include "base/result.h"
#include "loader/boot_params.h"
#include "loader/file_range.h"

namespace crosvm::loader {

struct PvhStartInfo {
  static constexpr uint32_t kMagic = 0x336e'c578;
  Le32 magic = kMagic;
  Le32 version = 1U;
  Le32 flags;
  Le32 module_count;
  Le64 modules;  // of PvhModule
  Le64 cmdline;
  Le64 rsdp;
  Le64 memory_map;  // of PvhMemoryMapEntry, from version 1 on
  Le32 memory_map_entries;
  Le32 reserved;
};
static_assert(sizeof(PvhStartInfo) == 56);

struct PvhModule {
  Le64 address;
  Le64 size;
  Le64 cmdline;
  Le64 reserved;
};
static_assert(sizeof(PvhModule) == 32);

struct PvhMemoryMapEntry {
  Le64 address;
  Le64 size;
  Le32 type;
  Le32 reserved;
};
static_assert(sizeof(PvhMemoryMapEntry) == 24);

struct PvhInput {
  memory::GuestAddr cmdline;  // NUL-terminated
  std::optional<GuestRange> initrd;
  memory::GuestAddr rsdp;
  std::span<const MemoryMapEntry> memory_map;
};

// Writes start info, module list and memory map one behind the other from `at` on; returns what
// they take. The start info is at `at`, which is below 4 GiB.
Result<GuestRange> WritePvhStartInfo(const memory::GuestMemory& memory, memory::GuestAddr at,
                                     const PvhInput& input);

}  // namespace crosvm::loader

// Where RAM, firmware and the PCI windows lie in guest-physical memory. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "arch/x86_64/layout.h"
#include "base/result.h"
#include "loader/boot_params.h"
#include "memory/guest_memory.h"

namespace crosvm::x86_64 {

struct AddressWindow {
  uint64_t base = 0;
  uint64_t size = 0;
  constexpr uint64_t end() const { return base + size; }
};

struct MemoryLayout {
  std::vector<memory::RegionLayout> ram;         // low and, when it does not fit there, high
  std::optional<memory::RegionLayout> firmware;  // the BIOS image, ending at 4 GiB
  uint64_t low_ram_end = 0;
  uint64_t high_ram_end = 0;  // 4 GiB when there is no high RAM
  AddressWindow pci_low;      // 32-bit BARs
  AddressWindow pci_high;     // 64-bit BARs, shared memory, pmem, pstore

  // RAM and firmware, sorted: what GuestMemory::Create() wants.
  std::vector<memory::RegionLayout> Regions() const;
};

// `ram_size` in bytes, a multiple of the page size; `firmware_size` 0 for a kernel boot;
// `physical_bits` is what the host's CPUID leaf 0x80000008 says (PhysicalAddressBits() in cpuid.h).
// Errors: kInvalidArgument, in the user's terms.
Result<MemoryLayout> PlanMemory(uint64_t ram_size, uint64_t firmware_size, uint8_t physical_bits);

// The memory map for a kernel. `large_acpi`: the tables lie at kLargeAcpi.
std::vector<loader::MemoryMapEntry> MemoryMap(const MemoryLayout& layout, bool large_acpi);

}  // namespace crosvm::x86_64

// The Intel MultiProcessor table (specification 1.4), for guests that boot without ACPI
// (`acpi=off`). Pure; any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "tables/acpi.h"
#include "tables/byte_writer.h"

namespace crosvm::tables {

struct MpConfig {
  std::vector<uint32_t> apic_ids;  // those above 254 cannot be named here and are left out
  uint32_t local_apic_address = 0;
  uint32_t ioapic_address = 0;
  uint16_t sci = 0;  // level, active high; 0: none
  uint16_t pci_bus_count = 1;
  std::vector<PciInterrupt> interrupts;  // of bus 0
};

struct MpTable {
  Bytes floating_pointer;  // 16 bytes; lies where the guest searches (0x9fc00, 0xf0000 to 0xfffff)
  Bytes configuration;
};

// `configuration_address` is where the caller will put the configuration; below 4 GiB.
MpTable BuildMpTable(const MpConfig& config, uint32_t configuration_address);

}  // namespace crosvm::tables

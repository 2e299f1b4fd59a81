// What the guest reads about its hardware: ACPI, the MP table and SMBIOS, described for this
// machine and written to guest memory. Used by vm/ on the main thread before the guest runs, for
// kernels and for firmware alike.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "arch/x86_64/cpuid.h"
#include "arch/x86_64/memory_plan.h"
#include "base/result.h"
#include "memory/guest_memory.h"
#include "tables/acpi.h"
#include "tables/smbios.h"

namespace crosvm::x86_64 {

struct DmiFiles {
  tables::Bytes entry_point;
  tables::Bytes structures;
};

// Which of the devices of the address table (layout.h) the VM has.
struct MachineInfo {
  uint32_t vcpu_count = 1;
  uint8_t serial_count = 4;
  bool rtc = true;
  // A keyboard controller with a keyboard. One that only resets is not shown: a guest would wait
  // for its answers.
  bool keyboard = false;
  bool pvpanic = true;
  bool pm_timer = true;
  bool reset_port = true;  // kResetPort
  uint16_t pci_buses = 1;  // at most 64
  bool native_hotplug = true;
  tables::aml::Term extra_aml;                 // of devices, for the end of \_SB
  std::vector<tables::AcpiTable> acpi_tables;  // --acpi-table
  tables::SmbiosConfig smbios;                 // `ram` is filled in by WriteTables
  std::optional<DmiFiles> dmi;                 // --dmi, instead of `smbios`
};

struct FirmwareTables {
  GuestAddr rsdp = kRsdp;
  bool large_acpi = false;  // the tables take [kLargeAcpi, + kLargeAcpiMax)
};

// Errors: kInvalidArgument, for tables of the user that do not fit.
Result<FirmwareTables> WriteTables(const memory::GuestMemory& memory, const MemoryLayout& layout,
                                   const MachineInfo& info);

tables::AcpiConfig DescribeAcpi(const MemoryLayout& layout, const MachineInfo& info);
// _PRT and MP table: every slot and pin of bus 0 by IntxGsi().
std::vector<tables::PciInterrupt> PciInterrupts();

// Files of the user, checked. The errors name the file.
Result<tables::AcpiTable> ReadAcpiTable(const std::string& path);
// `directory` holds smbios_entry_point and DMI, as /sys/firmware/dmi/tables does.
Result<DmiFiles> ReadDmi(const std::string& directory);

}  // namespace crosvm::x86_64

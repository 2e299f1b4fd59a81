// ACPI 6.5 tables: RSDP, XSDT, FADT, FACS, MADT, MCFG and a DSDT with the PCI host bridge. arch/
// describes the machine in an AcpiConfig and places the resulting image in guest memory. Pure; any
// thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tables/aml.h"
#include "tables/byte_writer.h"

namespace crosvm::tables {

// Where INTx of a slot of bus 0 arrives. The same list feeds the _PRT and the MP table.
struct PciInterrupt {
  uint8_t slot = 0;  // 0 to 31
  uint8_t pin = 0;   // 0 is INTA
  uint32_t gsi = 0;
};

struct MemoryWindow {
  uint64_t base = 0;
  uint64_t size = 0;  // 0: there is none
};

struct AcpiPciHost {
  uint16_t bus_count = 1;      // buses 0 to bus_count - 1
  uint64_t ecam_base = 0;      // 1 MiB for each bus; 0: no MCFG
  MemoryWindow low_window;     // below 4 GiB
  MemoryWindow high_window;    // above 4 GiB; prefetchable
  bool native_hotplug = true;  // _OSC grants the guest PCIe hot-plug
  std::vector<PciInterrupt> interrupts;
};

struct AcpiSerial {
  uint16_t port = 0;
  uint8_t irq = 0;
};

// The fixed-feature registers. All are I/O ports.
struct AcpiPower {
  uint16_t sci = 0;
  uint16_t pm1_event = 0;    // 4 bytes: status and enable
  uint16_t pm1_control = 0;  // 2 bytes
  uint16_t pm_timer = 0;     // 4 bytes, 32 bits wide; 0: none
  uint16_t gpe0 = 0;         // `gpe0_length` bytes: status, then enable; 0: none
  uint8_t gpe0_length = 0;
  uint16_t reset_port = 0;  // 0: no reset register
  uint8_t reset_value = 0;
  uint8_t s5_type = 0;             // SLP_TYP that switches off
  std::optional<uint8_t> s1_type;  // SLP_TYP that suspends; no S1 without it
};

// MADT type 2: ISA interrupt `isa_irq` arrives at `gsi`.
struct AcpiInterruptOverride {
  uint8_t isa_irq = 0;
  uint32_t gsi = 0;
  uint16_t flags = 0;  // MPS INTI flags: polarity in bits 0-1, trigger mode in bits 2-3
};
inline constexpr uint16_t kIntiLevelHigh = 0x000d;

struct AcpiConfig {
  std::vector<uint32_t>
      apic_ids;  // one a vCPU, the processor's UID is the index; above 254 as x2APIC entries
  uint32_t local_apic_address = 0;
  uint32_t ioapic_address = 0;
  uint8_t ioapic_id = 0;
  std::vector<AcpiInterruptOverride> overrides;
  AcpiPower power;
  std::optional<AcpiPciHost> pci;
  std::vector<AcpiSerial> serials;
  bool rtc = false;
  bool i8042 = false;
  uint16_t pvpanic_port = 0;  // 0: none
  aml::Term extra_aml;        // terms put at the end of \_SB, from devices
};

// One table of the user (--acpi-table), checked by ParseAcpiTable().
struct AcpiTable {
  std::array<char, 4> signature{};
  Bytes bytes;
  std::string_view name() const { return {signature.data(), signature.size()}; }
};

// Checks a file of the user: a whole table with a header, a plausible signature, the right length
// and checksum. RSDP, XSDT, RSDT and FACS are refused: those are always ours. At most 1 MiB.
// Errors: kInvalidArgument.
Result<AcpiTable> ParseAcpiTable(Bytes file);

// All tables but the RSDP, to be copied to guest-physical `base`. The guest gets there through
// BuildRsdp(xsdt).
struct AcpiImage {
  uint64_t base = 0;
  uint64_t xsdt = 0;  // address
  Bytes bytes;
};

// Builds the tables for `base` (64-byte aligned), at most `limit` bytes. Tables of the user: FACP
// is the template of the FADT (addresses of FACS and DSDT are ours), DSDT replaces ours, of an APIC
// only the interrupt source overrides are taken, every other one is listed in the XSDT as it is.
// Errors: kInvalidArgument when the tables do not fit.
Result<AcpiImage> BuildAcpi(const AcpiConfig& config, std::span<const AcpiTable> user_tables,
                            uint64_t base, uint64_t limit);

// The parts, for tests and for BuildAcpi.
Bytes BuildDsdt(const AcpiConfig& config);
Bytes BuildFadt(const AcpiConfig& config, uint64_t facs, uint64_t dsdt);
Bytes BuildFacs();
Bytes BuildMadt(const AcpiConfig& config);
Bytes BuildMcfg(const AcpiPciHost& pci);
Bytes BuildXsdt(std::span<const uint64_t> tables);
Bytes BuildRsdp(uint64_t xsdt);
// The overrides (type 2) in a user's MADT; entries that do not fit end the list.
std::vector<AcpiInterruptOverride> OverridesOf(const AcpiTable& madt);

// Size of the common header; puts one with the signature in front of `body` and fills in length and
// checksum.
inline constexpr size_t kAcpiHeaderSize = 36;
Bytes WrapTable(std::string_view signature, uint8_t revision, std::span<const uint8_t> body);
// Recomputes the checksum of a whole table.
void FixChecksum(Bytes& table);

}  // namespace crosvm::tables

#include <algorithm>

#include "arch/x86_64/firmware.h"

// A machine description around two user's files: whatever they hold, the tables are written whole
// or refused.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace crosvm;
  using namespace crosvm::x86_64;
  static const MemoryLayout layout = *PlanMemory(16 << 20, 0, 40);
  static const memory::GuestMemory memory = *memory::GuestMemory::Create(layout.Regions());
  if (size < 4) return 0;
  MachineInfo info;
  info.vcpu_count = 1U + data[0];
  info.pci_buses = static_cast<uint16_t>(1 + data[1] % 64);
  const std::span<const uint8_t> rest(data + 2, size - 2);
  const std::span<const uint8_t> entry = rest.first(std::min<size_t>(rest.size(), 31));
  if ((data[1] & 0x80) != 0) {
    info.dmi =
        DmiFiles{.entry_point = {entry.begin(), entry.end()},
                 .structures = {rest.begin() + static_cast<ptrdiff_t>(entry.size()), rest.end()}};
  } else {
    constexpr const char* kNames[] = {"APIC", "FACP", "DSDT", "MCFG"};
    Result<tables::AcpiTable> table =
        tables::ParseAcpiTable(tables::WrapTable(kNames[data[1] % 4], 1, rest));
    if (table) info.acpi_tables.push_back(*std::move(table));
  }
  (void)WriteTables(memory, layout, info);
  return 0;
}

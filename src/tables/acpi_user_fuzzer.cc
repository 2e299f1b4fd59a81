#include "tables/acpi.h"
#include "tables/test_machine.h"

// A user's table, as it is and with length and checksum made right so that what is behind the
// header is reached too.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace crosvm::tables;
  Bytes file(data, data + size);
  (void)ParseAcpiTable(file);
  if (size < kAcpiHeaderSize) return 0;
  for (size_t i = 0; i < 4; ++i) file[4 + i] = static_cast<uint8_t>(size >> (8 * i));
  FixChecksum(file);
  crosvm::Result<AcpiTable> table = ParseAcpiTable(std::move(file));
  if (!table) return 0;
  (void)OverridesOf(*table);
  AcpiConfig config;
  config.apic_ids = {0};
  const std::vector<AcpiTable> tables = {*std::move(table)};
  (void)BuildAcpi(config, tables, 0xe0000, 0x10000);
  return 0;
}

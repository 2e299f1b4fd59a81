#include "arch/x86_64/firmware.h"

#include <numeric>

#include "arch/x86_64/layout.h"
#include "base/check.h"
#include "sys/file.h"
#include "tables/mp_table.h"

namespace crosvm::x86_64 {
namespace {

// The RSDP is alone in front of the tables.
constexpr uint64_t kSmallAcpi = kRsdp.value() + 64;
constexpr uint64_t kSmallAcpiMax = kSmbios.value() - kSmallAcpi;
constexpr size_t kMaxUserFile = 1 << 20;

Status Put(const memory::GuestMemory& memory, GuestAddr at, std::span<const uint8_t> bytes,
           std::string_view what) {
  if (memory.WriteBytes(at, bytes)) return {};
  return Fail(ErrorKind::kInvalidArgument,
              "no guest memory at {:#x} for {}; give the guest more (--mem)", at.value(), what);
}

std::vector<uint32_t> ApicIds(uint32_t count) {
  std::vector<uint32_t> ids(count);
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

Result<FirmwareTables> WriteAcpi(const memory::GuestMemory& memory, const MemoryLayout& layout,
                                 const MachineInfo& info) {
  const tables::AcpiConfig config = DescribeAcpi(layout, info);
  FirmwareTables out;
  Result<tables::AcpiImage> image =
      tables::BuildAcpi(config, info.acpi_tables, kSmallAcpi, kSmallAcpiMax);
  if (!image) {
    image = tables::BuildAcpi(config, info.acpi_tables, kLargeAcpi.value(), kLargeAcpiMax);
    out.large_acpi = true;
  }
  const tables::AcpiImage placed = TRY(std::move(image));
  TRY(Put(memory, GuestAddr(placed.base), placed.bytes, "the ACPI tables"));
  TRY(Put(memory, kRsdp, tables::BuildRsdp(placed.xsdt), "the ACPI root"));
  return out;
}

Status WriteSmbios(const memory::GuestMemory& memory, const MemoryLayout& layout,
                   const MachineInfo& info) {
  tables::Bytes image;
  if (info.dmi) {
    image = TRY(tables::RelocateSmbios(info.dmi->entry_point, info.dmi->structures, kSmbios.value(),
                                       kSmbiosMax));
  } else {
    tables::SmbiosConfig config = info.smbios;
    config.ram.clear();
    for (const memory::RegionLayout& region : layout.ram) {
      config.ram.push_back({.start = region.start.value(), .size = region.size});
    }
    image = TRY(tables::BuildSmbios(config, kSmbios.value(), kSmbiosMax));
  }
  return Put(memory, kSmbios, image, "SMBIOS");
}

Status WriteMpTable(const memory::GuestMemory& memory, const MachineInfo& info) {
  const tables::MpConfig config = {.apic_ids = ApicIds(info.vcpu_count),
                                   .local_apic_address = static_cast<uint32_t>(kLocalApicBase),
                                   .ioapic_address = static_cast<uint32_t>(kIoApicBase),
                                   .sci = static_cast<uint16_t>(kSci),
                                   .pci_bus_count = info.pci_buses,
                                   .interrupts = PciInterrupts()};
  const tables::MpTable table =
      tables::BuildMpTable(config, static_cast<uint32_t>(kMpConfiguration.value()));
  // 255 processors, the buses and all sources are below 8 KiB.
  CHECK(table.configuration.size() <= kMpConfigurationMax);
  TRY(Put(memory, kMpFloatingPointer, table.floating_pointer, "the MP table"));
  return Put(memory, kMpConfiguration, table.configuration, "the MP table");
}

tables::AcpiPciHost DescribePci(const MemoryLayout& layout, const MachineInfo& info) {
  return {.bus_count = info.pci_buses,
          .ecam_base = kEcamBase,
          .low_window = {.base = layout.pci_low.base, .size = layout.pci_low.size},
          .high_window = {.base = layout.pci_high.base, .size = layout.pci_high.size},
          .native_hotplug = info.native_hotplug,
          .interrupts = PciInterrupts()};
}

Result<tables::Bytes> ReadBytes(const std::string& path) {
  const std::string text = TRY(sys::ReadFileToString(path, kMaxUserFile));
  return tables::Bytes(text.begin(), text.end());
}

}  // namespace

std::vector<tables::PciInterrupt> PciInterrupts() {
  std::vector<tables::PciInterrupt> lines;
  for (uint8_t slot = 0; slot < 32; ++slot) {
    for (uint8_t pin = 0; pin < 4; ++pin) {
      lines.push_back({.slot = slot, .pin = pin, .gsi = IntxGsi(slot, pin)});
    }
  }
  return lines;
}

tables::AcpiConfig DescribeAcpi(const MemoryLayout& layout, const MachineInfo& info) {
  CHECK(info.serial_count <= kSerials.size());
  CHECK(info.pci_buses >= 1 && info.pci_buses * kEcamBytesPerBus <= kEcamReserved);
  tables::AcpiConfig config;
  config.apic_ids = ApicIds(info.vcpu_count);
  config.local_apic_address = static_cast<uint32_t>(kLocalApicBase);
  config.ioapic_address = static_cast<uint32_t>(kIoApicBase);
  config.overrides = {{.isa_irq = kSci, .gsi = kSci, .flags = tables::kIntiLevelHigh}};
  config.power = {.sci = static_cast<uint16_t>(kSci),
                  .pm1_event = kAcpiPmBase + kPm1EventOffset,
                  .pm1_control = kAcpiPmBase + kPm1ControlOffset,
                  .reset_port = info.reset_port ? kResetPort : uint16_t{0},
                  .reset_value = info.reset_port ? kResetValue : uint8_t{0},
                  .s5_type = 0,
                  .s1_type = uint8_t{1}};
  if (info.pm_timer) config.power.pm_timer = kAcpiPmBase + kPmTimerOffset;
  config.pci = DescribePci(layout, info);
  for (size_t i = 0; i < info.serial_count; ++i) {
    config.serials.push_back({.port = kSerials[i].port, .irq = kSerials[i].irq});
  }
  config.rtc = info.rtc;
  config.i8042 = info.keyboard;
  config.pvpanic_port = info.pvpanic ? kPvpanicPort : uint16_t{0};
  config.extra_aml = info.extra_aml;
  return config;
}

Result<FirmwareTables> WriteTables(const memory::GuestMemory& memory, const MemoryLayout& layout,
                                   const MachineInfo& info) {
  const FirmwareTables out = TRY_CONTEXT(WriteAcpi(memory, layout, info), "writing ACPI tables");
  TRY_CONTEXT(WriteSmbios(memory, layout, info), "writing SMBIOS tables");
  TRY_CONTEXT(WriteMpTable(memory, info), "writing the MP table");
  return out;
}

Result<tables::AcpiTable> ReadAcpiTable(const std::string& path) {
  tables::Bytes bytes = TRY(ReadBytes(path));
  return TRY_CONTEXT(tables::ParseAcpiTable(std::move(bytes)), "--acpi-table {}", path);
}

Result<DmiFiles> ReadDmi(const std::string& directory) {
  DmiFiles files;
  files.entry_point =
      TRY_CONTEXT(ReadBytes(directory + "/smbios_entry_point"), "--dmi {}", directory);
  files.structures = TRY_CONTEXT(ReadBytes(directory + "/DMI"), "--dmi {}", directory);
  // Checked now, so that a wrong file is named before anything is built.
  TRY_CONTEXT(
      tables::RelocateSmbios(files.entry_point, files.structures, kSmbios.value(), kSmbiosMax),
      "--dmi {}", directory);
  return files;
}

}  // namespace crosvm::x86_64

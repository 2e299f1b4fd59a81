// The DSDT: what the guest cannot find out by probing.
#include "base/check.h"
#include "tables/acpi.h"
#include "tables/aml_resource.h"

namespace crosvm::tables {
namespace {

using aml::Device;
using aml::EisaId;
using aml::Integer;
using aml::Name;
using aml::ResourceTemplate;
using aml::Sequence;
using aml::Term;

constexpr uint16_t kConfigPorts = 0xcf8;
constexpr uint16_t kConfigPortCount = 8;

Term SleepPackage(uint8_t type) {
  return aml::Package({Integer(type), Integer(type), Integer(0), Integer(0)});
}

Term Processors(const AcpiConfig& config) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::vector<Term> devices;
  for (uint32_t uid = 0; uid < config.apic_ids.size(); ++uid) {
    const char name[] = {'C', kDigits[(uid >> 8) & 0xf], kDigits[(uid >> 4) & 0xf],
                         kDigits[uid & 0xf]};
    devices.push_back(Device({name, sizeof(name)},
                             {Name("_HID", aml::String("ACPI0007")), Name("_UID", Integer(uid))}));
  }
  return Sequence(devices);
}

Term Routing(const AcpiPciHost& pci) {
  std::vector<Term> entries;
  for (const PciInterrupt& line : pci.interrupts) {
    const uint64_t address = (uint64_t{line.slot} << 16) | 0xffff;
    entries.push_back(
        aml::Package({Integer(address), Integer(line.pin), Integer(0), Integer(line.gsi)}));
  }
  // 32 slots of 4 pins are under 255 elements.
  return Name("_PRT", aml::Package(entries));
}

Term HostBridgeResources(const AcpiPciHost& pci) {
  std::vector<Term> windows;
  windows.push_back(aml::BusNumbers(0, pci.bus_count));
  windows.push_back(aml::IoPorts(kConfigPorts, kConfigPortCount));
  windows.push_back(aml::IoWindow(0, kConfigPorts));
  windows.push_back(
      aml::IoWindow(kConfigPorts + kConfigPortCount, 0x10000U - kConfigPorts - kConfigPortCount));
  if (pci.low_window.size != 0) {
    CHECK(pci.low_window.base + pci.low_window.size <= (uint64_t{1} << 32));
    windows.push_back(aml::MemoryWindow32(static_cast<uint32_t>(pci.low_window.base),
                                          static_cast<uint32_t>(pci.low_window.size)));
  }
  if (pci.high_window.size != 0) {
    windows.push_back(
        aml::MemoryWindow64(pci.high_window.base, pci.high_window.size, aml::Prefetchable::kYes));
  }
  return Name("_CRS", ResourceTemplate(windows));
}

// _OSC (ACPI 6.5, 6.2.11; PCI Firmware 3.3, 4.5): the guest says what it can, and is granted what
// it may control. Nothing is firmware's here, so everything it asks for is granted but hot-plug
// when that is off.
Term OperatingSystemCapabilities(bool native_hotplug) {
  constexpr uint64_t kAllControls = 0x1f;
  constexpr uint64_t kHotplugControls = 0x03;  // native hot-plug and SHPC
  const uint64_t granted = native_hotplug ? kAllControls : kAllControls & ~kHotplugControls;
  const Term wrong_revision = Integer(0x08);
  const Term masked = Integer(0x10);
  const Term unknown_uuid = Integer(0x04);
  const Term status = aml::Path("CDW1");
  const Term control = aml::Path("CDW3");
  const auto add_status = [&](const Term& bits) {
    return aml::Binary(aml::BinaryOp::kOr, status, bits, status);
  };
  return aml::Method(
      "_OSC", 4, aml::Serialized::kYes,
      {aml::CreateField(4, aml::Arg(3), Integer(0), "CDW1"),
       aml::If(aml::Equal(aml::Arg(0), aml::Uuid("33DB4D5B-1FF7-401C-9657-7441C03DD766")),
               {aml::CreateField(4, aml::Arg(3), Integer(8), "CDW3"),
                aml::Binary(aml::BinaryOp::kAnd, control, Integer(granted), aml::Local(0)),
                aml::If(aml::LogicalNot(aml::Equal(aml::Arg(1), Integer(1))),
                        {add_status(wrong_revision)}),
                aml::If(aml::LogicalNot(aml::Equal(aml::Local(0), control)), {add_status(masked)}),
                aml::Store(aml::Local(0), control)}),
       aml::Else({add_status(unknown_uuid)}), aml::Return(aml::Arg(3))});
}

Term HostBridge(const AcpiPciHost& pci) {
  return Device("PCI0", {Name("_HID", EisaId("PNP0A08")), Name("_CID", EisaId("PNP0A03")),
                         Name("_UID", Integer(0)), Name("_SEG", Integer(0)),
                         Name("_BBN", Integer(0)), HostBridgeResources(pci), Routing(pci),
                         OperatingSystemCapabilities(pci.native_hotplug)});
}

// ECAM has to be claimed by a motherboard device, or the guest does not trust MCFG (PCI
// Firmware 3.3, 4.1.2).
Term Motherboard(const AcpiPciHost& pci) {
  constexpr uint64_t kBusBytes = 1 << 20;
  CHECK(pci.ecam_base + pci.bus_count * kBusBytes <= (uint64_t{1} << 32));
  return Device("MBRD", {Name("_HID", EisaId("PNP0C02")), Name("_UID", Integer(0)),
                         Name("_CRS", ResourceTemplate({aml::FixedMemory32(
                                          static_cast<uint32_t>(pci.ecam_base),
                                          static_cast<uint32_t>(pci.bus_count * kBusBytes))}))});
}

Term Serials(const AcpiConfig& config) {
  // The first and third port have one interrupt, as have the second and fourth; without sharing a
  // guest could not open both of a pair.
  constexpr uint8_t kUartPorts = 8;
  std::vector<Term> devices;
  for (size_t i = 0; i < config.serials.size(); ++i) {
    CHECK(i < 9);
    const AcpiSerial& serial = config.serials[i];
    const char name[] = {'C', 'O', 'M', static_cast<char>('1' + i)};
    devices.push_back(
        Device({name, sizeof(name)},
               {Name("_HID", EisaId("PNP0501")), Name("_UID", Integer(i + 1)),
                Name("_CRS", ResourceTemplate({aml::IoPorts(serial.port, kUartPorts),
                                               aml::LegacyIrq(serial.irq, aml::Shared::kYes)}))}));
  }
  return Sequence(devices);
}

Term Rtc() {
  return Device("RTC0",
                {Name("_HID", EisaId("PNP0B00")),
                 Name("_CRS", ResourceTemplate({aml::IoPorts(0x70, 2), aml::LegacyIrq(8)}))});
}

Term Keyboard() {
  return Device("KBD0",
                {Name("_HID", EisaId("PNP0303")),
                 Name("_CRS", ResourceTemplate({aml::IoPorts(0x60, 1), aml::IoPorts(0x64, 1),
                                                aml::LegacyIrq(1)}))});
}

Term Pvpanic(uint16_t port) {
  // _STA 0x0b: present, enabled, working, and not shown to the user.
  return Device("PEVT", {Name("_HID", aml::String("QEMU0001")), Name("_STA", Integer(0x0b)),
                         Name("_CRS", ResourceTemplate({aml::IoPorts(port, 1)}))});
}

}  // namespace

Bytes BuildDsdt(const AcpiConfig& config) {
  Term terms;
  if (config.power.s1_type) terms = Name("_S1_", SleepPackage(*config.power.s1_type));
  terms = Sequence({terms, Name("_S5_", SleepPackage(config.power.s5_type))});
  Term devices = Processors(config);
  if (config.pci) {
    devices = Sequence({devices, HostBridge(*config.pci)});
    if (config.pci->ecam_base != 0) devices = Sequence({devices, Motherboard(*config.pci)});
  }
  devices = Sequence({devices, Serials(config)});
  if (config.rtc) devices = Sequence({devices, Rtc()});
  if (config.i8042) devices = Sequence({devices, Keyboard()});
  if (config.pvpanic_port != 0) devices = Sequence({devices, Pvpanic(config.pvpanic_port)});
  terms = Sequence({terms, aml::Scope("\\_SB_", {devices, config.extra_aml})});
  return WrapTable("DSDT", 6, terms);
}

}  // namespace crosvm::tables

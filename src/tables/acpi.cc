#include "tables/acpi.h"

#include <algorithm>

#include "base/check.h"

namespace crosvm::tables {
namespace {

constexpr size_t kLengthOffset = 4;
constexpr size_t kChecksumOffset = 9;
constexpr uint64_t kTableAlignment = 64;

// FADT fields by offset (ACPI 6.5, table 5.9) that are patched in a user's FADT too.
constexpr size_t kFadtSize = 276;
constexpr size_t kFadtFacs32 = 36;
constexpr size_t kFadtDsdt32 = 40;
constexpr size_t kFadtXFacs = 132;
constexpr size_t kFadtXDsdt = 140;

constexpr uint32_t kFadtWbinvd = 1U << 0;
constexpr uint32_t kFadtProcC1 = 1U << 2;
constexpr uint32_t kFadtNoSleepButton = 1U << 5;
constexpr uint32_t kFadtRtcNotFixed = 1U << 6;
constexpr uint32_t kFadtTimer32Bit = 1U << 8;
constexpr uint32_t kFadtResetRegister = 1U << 10;

constexpr uint16_t kBootLegacyDevices = 1U << 0;
constexpr uint16_t kBoot8042 = 1U << 1;
constexpr uint16_t kBootNoVga = 1U << 2;
constexpr uint16_t kBootNoCmosRtc = 1U << 5;

constexpr uint8_t kMadtLocalApic = 0;
constexpr uint8_t kMadtIoApic = 1;
constexpr uint8_t kMadtOverride = 2;
constexpr uint8_t kMadtLocalApicNmi = 4;
constexpr uint8_t kMadtLocalX2Apic = 9;
constexpr uint8_t kMadtLocalX2ApicNmi = 10;
constexpr uint32_t kProcessorEnabled = 1;
constexpr uint32_t kLastXApicId = 254;

// A generic address structure for a register of `bytes` I/O ports; all zero for port 0 (no such
// register).
void AppendPortRegister(ByteWriter& out, uint16_t port, uint8_t bytes) {
  if (port == 0) {
    out.Zero(12);
    return;
  }
  constexpr uint8_t kSystemIo = 1;
  // Access size: 1 byte, 2 words, 3 dwords; a PM1 event block is two 16-bit registers.
  const uint8_t access = bytes == 1 ? 1 : 2;
  out.U8(kSystemIo).U8(static_cast<uint8_t>(bytes * 8)).U8(0).U8(access).U64(port);
}

uint32_t FadtFlags(const AcpiPower& power) {
  // PWR_BUTTON clear: the power button is the fixed-hardware one, in PM1 status and enable. The
  // clock's alarm is not there.
  uint32_t flags = kFadtWbinvd | kFadtProcC1 | kFadtNoSleepButton | kFadtRtcNotFixed;
  if (power.pm_timer != 0) flags |= kFadtTimer32Bit;
  if (power.reset_port != 0) flags |= kFadtResetRegister;
  return flags;
}

uint16_t BootFlags(const AcpiConfig& config) {
  uint16_t flags = kBootNoVga;
  if (!config.serials.empty()) flags |= kBootLegacyDevices;
  if (config.i8042) flags |= kBoot8042;
  if (!config.rtc) flags |= kBootNoCmosRtc;
  return flags;
}

void AppendOverride(ByteWriter& out, const AcpiInterruptOverride& entry) {
  out.U8(kMadtOverride).U8(10).U8(0).U8(entry.isa_irq).U32(entry.gsi).U16(entry.flags);
}

// Our FADT, or the user's with our addresses of FACS and DSDT. SMI_CMD is zeroed: nothing answers
// there.
Bytes FadtFrom(const AcpiConfig& config, const AcpiTable* user, uint64_t facs, uint64_t dsdt) {
  if (user == nullptr) return BuildFadt(config, facs, dsdt);
  constexpr size_t kFadtSmiCommand = 48;
  ByteWriter out;
  out.Append(user->bytes);
  // TRUST: a user's table may be an old, short one; each field is written only where it exists.
  if (out.size() < kFadtXDsdt + 8) out.Zero(kFadtXDsdt + 8 - out.size());
  out.PatchU32(kLengthOffset, static_cast<uint32_t>(out.size()));
  out.PatchU32(kFadtFacs32, 0);
  out.PatchU32(kFadtDsdt32, 0);
  out.PatchU32(kFadtSmiCommand, 0);
  out.PatchU32(kFadtXFacs, static_cast<uint32_t>(facs));
  out.PatchU32(kFadtXFacs + 4, static_cast<uint32_t>(facs >> 32));
  out.PatchU32(kFadtXDsdt, static_cast<uint32_t>(dsdt));
  out.PatchU32(kFadtXDsdt + 4, static_cast<uint32_t>(dsdt >> 32));
  Bytes table = std::move(out).Take();
  FixChecksum(table);
  return table;
}

const AcpiTable* Find(std::span<const AcpiTable> tables, std::string_view name) {
  const auto found = std::ranges::find(tables, name, &AcpiTable::name);
  return found == tables.end() ? nullptr : &*found;
}

// Places tables behind each other, each aligned.
class Image {
 public:
  explicit Image(uint64_t base) : base_(base) {}

  uint64_t Add(std::span<const uint8_t> table) {
    const uint64_t aligned = (bytes_.size() + kTableAlignment - 1) & ~(kTableAlignment - 1);
    bytes_.resize(aligned);
    bytes_.insert(bytes_.end(), table.begin(), table.end());
    return base_ + aligned;
  }
  size_t size() const { return bytes_.size(); }
  Bytes Take() && { return std::move(bytes_); }

 private:
  const uint64_t base_;
  Bytes bytes_;
};

}  // namespace

void FixChecksum(Bytes& table) {
  CHECK(table.size() >= kAcpiHeaderSize);
  table[kChecksumOffset] = 0;
  table[kChecksumOffset] = Checksum(table);
}

Bytes WrapTable(std::string_view signature, uint8_t revision, std::span<const uint8_t> body) {
  CHECK(signature.size() == 4);
  ByteWriter out;
  out.Text(signature).U32(static_cast<uint32_t>(kAcpiHeaderSize + body.size())).U8(revision).U8(0);
  out.FixedText("CROSVM", 6).FixedText("CROSVMDT", 8).U32(1).FixedText("CROS", 4).U32(1);
  out.Append(body);
  Bytes table = std::move(out).Take();
  FixChecksum(table);
  return table;
}

Bytes BuildFacs() {
  // FACS has a signature and a length, but neither the common header nor a checksum
  // (ACPI 6.5, 5.2.10).
  ByteWriter out;
  out.Text("FACS").U32(64).Zero(24).U8(2).Zero(31);
  return std::move(out).Take();
}

Bytes BuildFadt(const AcpiConfig& config, uint64_t facs, uint64_t dsdt) {
  const AcpiPower& power = config.power;
  // Latencies above these limits say that C2 and C3 do not exist (table 5.9, P_LVL2_LAT,
  // P_LVL3_LAT).
  constexpr uint16_t kNoC2 = 101;
  constexpr uint16_t kNoC3 = 1001;
  constexpr uint8_t kCenturyRegister = 0x32;
  constexpr uint8_t kMinorVersion = 5;
  ByteWriter out;
  out.U32(0).U32(0);                  // FIRMWARE_CTRL, DSDT: the 64-bit fields count
  out.U8(0).U8(0);                    // reserved, preferred profile: unspecified
  out.U16(power.sci).U32(0);          // SMI_CMD 0: ACPI mode is always on
  out.Zero(4);                        // ACPI_ENABLE to PSTATE_CNT
  out.U32(power.pm1_event).U32(0);    // PM1a, PM1b event
  out.U32(power.pm1_control).U32(0);  // PM1a, PM1b control
  out.U32(0).U32(power.pm_timer);     // PM2 control, PM timer
  out.U32(power.gpe0).U32(0);         // GPE0, GPE1
  out.U8(4).U8(2).U8(0).U8(power.pm_timer != 0 ? 4 : 0);
  out.U8(power.gpe0 != 0 ? power.gpe0_length : 0).U8(0).U8(0).U8(0);
  out.U16(kNoC2).U16(kNoC3).U16(0).U16(0);  // flush size, stride
  out.U8(0).U8(0).U8(0).U8(0);              // duty offset, width, day and month alarm
  out.U8(config.rtc ? kCenturyRegister : 0);
  out.U16(BootFlags(config)).U8(0).U32(FadtFlags(power));
  AppendPortRegister(out, power.reset_port, 1);
  out.U8(power.reset_value).U16(0).U8(kMinorVersion);
  out.U64(facs).U64(dsdt);
  AppendPortRegister(out, power.pm1_event, 4);
  out.Zero(12);
  AppendPortRegister(out, power.pm1_control, 2);
  out.Zero(12).Zero(12);  // PM1b control, PM2 control
  if (power.pm_timer != 0) {
    out.U8(1).U8(32).U8(0).U8(3).U64(power.pm_timer);
  } else {
    out.Zero(12);
  }
  if (power.gpe0 != 0) {
    out.U8(1).U8(static_cast<uint8_t>(power.gpe0_length * 8)).U8(0).U8(1).U64(power.gpe0);
  } else {
    out.Zero(12);
  }
  out.Zero(12).Zero(12).Zero(12);  // GPE1, sleep control, sleep status
  out.FixedText("CROSVM", 8, 0);   // hypervisor vendor identity
  CHECK(out.size() + kAcpiHeaderSize == kFadtSize);
  return WrapTable("FACP", 6, out.bytes());
}

Bytes BuildMadt(const AcpiConfig& config) {
  constexpr uint32_t kPcatCompatible = 1;  // there is an 8259 pair as well
  ByteWriter out;
  out.U32(config.local_apic_address).U32(kPcatCompatible);
  bool x2apic = false;
  for (uint32_t uid = 0; uid < config.apic_ids.size(); ++uid) {
    const uint32_t id = config.apic_ids[uid];
    if (id <= kLastXApicId && uid <= kLastXApicId) {
      out.U8(kMadtLocalApic).U8(8).U8(static_cast<uint8_t>(uid)).U8(static_cast<uint8_t>(id));
      out.U32(kProcessorEnabled);
    } else {
      x2apic = true;
      out.U8(kMadtLocalX2Apic).U8(16).U16(0).U32(id).U32(kProcessorEnabled).U32(uid);
    }
  }
  out.U8(kMadtIoApic).U8(12).U8(config.ioapic_id).U8(0).U32(config.ioapic_address).U32(0);
  for (const AcpiInterruptOverride& entry : config.overrides) AppendOverride(out, entry);
  // LINT1 of every processor is the NMI, as the local APIC is set up.
  out.U8(kMadtLocalApicNmi).U8(6).U8(0xff).U16(0).U8(1);
  if (x2apic) out.U8(kMadtLocalX2ApicNmi).U8(12).U16(0).U32(0xffff'ffff).U8(1).Zero(3);
  return WrapTable("APIC", 5, out.bytes());
}

Bytes BuildMcfg(const AcpiPciHost& pci) {
  CHECK(pci.bus_count >= 1 && pci.bus_count <= 256);
  ByteWriter out;
  out.Zero(8).U64(pci.ecam_base).U16(0).U8(0).U8(static_cast<uint8_t>(pci.bus_count - 1)).U32(0);
  return WrapTable("MCFG", 1, out.bytes());
}

Bytes BuildXsdt(std::span<const uint64_t> tables) {
  ByteWriter out;
  for (const uint64_t address : tables) out.U64(address);
  return WrapTable("XSDT", 1, out.bytes());
}

Bytes BuildRsdp(uint64_t xsdt) {
  constexpr size_t kFirstPart = 20;  // what the first checksum covers
  ByteWriter out;
  out.Text("RSD PTR ").U8(0).FixedText("CROSVM", 6).U8(2).U32(0).U32(36).U64(xsdt).U8(0).Zero(3);
  out.PatchU8(8, Checksum(out.bytes().first(kFirstPart)));
  out.PatchU8(32, Checksum(out.bytes()));
  return std::move(out).Take();
}

Result<AcpiImage> BuildAcpi(const AcpiConfig& config, std::span<const AcpiTable> user_tables,
                            uint64_t base, uint64_t limit) {
  Image image(base);
  std::vector<uint64_t> listed;
  const uint64_t facs = image.Add(BuildFacs());

  const AcpiTable* const user_dsdt = Find(user_tables, "DSDT");
  const uint64_t dsdt = image.Add(user_dsdt != nullptr ? user_dsdt->bytes : BuildDsdt(config));
  listed.push_back(image.Add(FadtFrom(config, Find(user_tables, "FACP"), facs, dsdt)));

  AcpiConfig with_overrides = config;
  for (const AcpiTable& table : user_tables) {
    if (table.name() != "APIC") continue;
    const std::vector<AcpiInterruptOverride> more = OverridesOf(table);
    with_overrides.overrides.insert(with_overrides.overrides.end(), more.begin(), more.end());
  }
  listed.push_back(image.Add(BuildMadt(with_overrides)));

  if (config.pci && config.pci->ecam_base != 0 && Find(user_tables, "MCFG") == nullptr) {
    listed.push_back(image.Add(BuildMcfg(*config.pci)));
  }
  for (const AcpiTable& table : user_tables) {
    const std::string_view name = table.name();
    if (name == "DSDT" || name == "FACP" || name == "APIC") continue;
    listed.push_back(image.Add(table.bytes));
    if (image.size() > limit) break;
  }
  const uint64_t xsdt = image.Add(BuildXsdt(listed));
  if (image.size() > limit) {
    return Fail(
        ErrorKind::kInvalidArgument,
        "the ACPI tables need more than the {} bytes there is room for; pass fewer or smaller "
        "--acpi-table files",
        limit);
  }
  return AcpiImage{.base = base, .xsdt = xsdt, .bytes = std::move(image).Take()};
}

}  // namespace crosvm::tables

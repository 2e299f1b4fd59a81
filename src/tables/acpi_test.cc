#include "tables/acpi.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "tables/test_machine.h"

namespace crosvm::tables {
namespace {

constexpr uint64_t kBase = 0xe0000;
constexpr uint64_t kLimit = 0x10000;

std::string Signature(std::span<const uint8_t> table) {
  return {table.begin(), table.begin() + 4};
}

// Follows the pointers from the RSDP as a guest does.
std::map<std::string, Bytes> Walk(const AcpiImage& image) {
  const auto table_at = [&](uint64_t address) {
    const size_t offset = address - image.base;
    EXPECT_LE(offset + 8, image.bytes.size());
    const uint32_t length = LoadU32(image.bytes, offset + 4);
    return Bytes(image.bytes.begin() + static_cast<ptrdiff_t>(offset),
                 image.bytes.begin() + static_cast<ptrdiff_t>(offset + length));
  };
  std::map<std::string, Bytes> out;
  const Bytes rsdp = BuildRsdp(image.xsdt);
  EXPECT_EQ(std::string(rsdp.begin(), rsdp.begin() + 8), "RSD PTR ");
  EXPECT_EQ(rsdp.size(), 36U);
  EXPECT_EQ(ByteSum(std::span(rsdp).first(20)), 0);
  EXPECT_EQ(ByteSum(rsdp), 0);
  EXPECT_EQ(rsdp[15], 2);
  const Bytes xsdt = table_at(LoadU64(rsdp, 24));
  EXPECT_EQ(Signature(xsdt), "XSDT");
  EXPECT_EQ(ByteSum(xsdt), 0);
  for (size_t at = kAcpiHeaderSize; at < xsdt.size(); at += 8) {
    const Bytes table = table_at(LoadU64(xsdt, at));
    EXPECT_EQ(ByteSum(table), 0) << Signature(table);
    out[Signature(table)] = table;
  }
  const Bytes& fadt = out["FACP"];
  if (fadt.size() >= 148) {
    out["FACS"] = table_at(LoadU64(fadt, 132));
    out["DSDT"] = table_at(LoadU64(fadt, 140));
    EXPECT_EQ(ByteSum(out["DSDT"]), 0);
  }
  return out;
}

AcpiTable UserTable(std::string_view signature, Bytes body) {
  Result<AcpiTable> table = ParseAcpiTable(WrapTable(signature, 2, body));
  EXPECT_TRUE(table.has_value());
  return *std::move(table);
}

TEST(Acpi, GuestFindsEveryTableFromTheRsdp) {
  const Result<AcpiImage> image = BuildAcpi(FullMachine(), {}, kBase, kLimit);
  ASSERT_TRUE(image.has_value());
  const std::map<std::string, Bytes> tables = Walk(*image);
  for (const char* name : {"FACP", "APIC", "MCFG", "FACS", "DSDT"}) {
    ASSERT_TRUE(tables.contains(name)) << name;
    EXPECT_EQ(Signature(tables.at(name)), name);
  }
  EXPECT_EQ(tables.size(), 5U);
  EXPECT_EQ(tables.at("FACS").size(), 64U);
}

TEST(Acpi, FadtDescribesThePowerRegisters) {
  const Bytes fadt = BuildFadt(FullMachine(), 0x1000, 0x2000);
  ASSERT_EQ(fadt.size(), 276U);
  EXPECT_EQ(fadt[8], 6);
  EXPECT_EQ(fadt[131], 5);
  EXPECT_EQ(LoadU16(fadt, 46), 5);   // SCI
  EXPECT_EQ(LoadU32(fadt, 48), 0U);  // SMI_CMD
  EXPECT_EQ(LoadU32(fadt, 56), 0xc000U);
  EXPECT_EQ(LoadU32(fadt, 64), 0xc004U);
  EXPECT_EQ(LoadU32(fadt, 76), 0xc008U);
  EXPECT_EQ(LoadU32(fadt, 80), 0xc010U);
  EXPECT_EQ(fadt[88], 4);
  EXPECT_EQ(fadt[89], 2);
  EXPECT_EQ(fadt[91], 4);
  EXPECT_EQ(fadt[92], 4);
  EXPECT_EQ(fadt[108], 0x32);
  EXPECT_EQ(LoadU16(fadt, 109), 0x0007);  // legacy devices, 8042, no VGA
  // WBINVD, C1, no sleep button, no RTC wake, 32-bit timer, reset register; bit 4 clear: fixed
  // power button.
  EXPECT_EQ(LoadU32(fadt, 112), 0x565U);
  const Bytes reset = {1, 8, 0, 1, 0xf9, 0x0c, 0, 0, 0, 0, 0, 0, 6};
  EXPECT_TRUE(std::equal(reset.begin(), reset.end(), fadt.begin() + 116));
  EXPECT_EQ(LoadU64(fadt, 132), 0x1000U);
  EXPECT_EQ(LoadU64(fadt, 140), 0x2000U);
  const Bytes event = {1, 32, 0, 2, 0x00, 0xc0, 0, 0, 0, 0, 0, 0};
  EXPECT_TRUE(std::equal(event.begin(), event.end(), fadt.begin() + 148));
  EXPECT_EQ(std::string(fadt.begin() + 268, fadt.begin() + 274), "CROSVM");
}

TEST(Acpi, FadtOfALegacyFreeMachineSaysSo) {
  AcpiConfig config;
  config.power = {.sci = 5, .pm1_event = 0xc000, .pm1_control = 0xc004};
  const Bytes fadt = BuildFadt(config, 0, 0);
  EXPECT_EQ(LoadU16(fadt, 109), 0x0024);  // no VGA, no RTC
  EXPECT_EQ(LoadU32(fadt, 112), 0x065U);
  EXPECT_EQ(fadt[108], 0);
  EXPECT_EQ(fadt[91], 0);
  EXPECT_EQ(LoadU64(fadt, 120), 0U);  // no reset register
}

TEST(Acpi, MadtListsProcessorsAndInterrupts) {
  AcpiConfig config = FullMachine();
  config.apic_ids = {0, 300};
  const Bytes madt = BuildMadt(config);
  EXPECT_EQ(LoadU32(madt, 36), 0xfee0'0000U);
  EXPECT_EQ(LoadU32(madt, 40), 1U);
  const Bytes entries(madt.begin() + 44, madt.end());
  const Bytes expected = {0,  8,  0,    0, 1,    0,    0,    0,  // processor 0
                          9,  16, 0,    0, 0x2c, 1,    0,    0,    1,    0, 0, 0,
                          1,  0,  0,    0,  // processor 1 as x2APIC
                          1,  12, 0,    0, 0,    0,    0xc0, 0xfe, 0,    0, 0, 0,  // IOAPIC
                          2,  10, 0,    5, 5,    0,    0,    0,    0x0d, 0,        // SCI
                          4,  6,  0xff, 0, 0,    1,                                // NMI
                          10, 12, 0,    0, 0xff, 0xff, 0xff, 0xff, 1,    0, 0, 0};
  EXPECT_EQ(entries, expected);
}

TEST(Acpi, McfgCoversTheBuses) {
  const Bytes mcfg = BuildMcfg(*FullMachine().pci);
  EXPECT_EQ(mcfg.size(), 60U);
  EXPECT_EQ(LoadU64(mcfg, 44), 0xf800'0000U);
  EXPECT_EQ(mcfg[54], 0);
  EXPECT_EQ(mcfg[55], 63);
}

TEST(Acpi, UserTablesAreListedAndReplace) {
  Bytes fadt_body(276 - kAcpiHeaderSize, 0xaa);
  AcpiConfig config = FullMachine();
  const std::vector<AcpiTable> user = {UserTable("SSDT", {1, 2, 3}), UserTable("DSDT", {0xa3}),
                                       UserTable("FACP", fadt_body)};
  const Result<AcpiImage> image = BuildAcpi(config, user, kBase, kLimit);
  ASSERT_TRUE(image.has_value());
  const std::map<std::string, Bytes> tables = Walk(*image);
  EXPECT_EQ(tables.at("SSDT").size(), kAcpiHeaderSize + 3);
  EXPECT_EQ(tables.at("DSDT").back(), 0xa3);
  EXPECT_EQ(tables.at("FACP")[46], 0xaa);
  EXPECT_EQ(LoadU32(tables.at("FACP"), 48), 0U);
  EXPECT_EQ(LoadU32(tables.at("FACP"), 40), 0U);
}

TEST(Acpi, ShortUserFadtGrowsToHoldThePointers) {
  const std::vector<AcpiTable> user = {UserTable("FACP", Bytes(80, 0))};
  const Result<AcpiImage> image = BuildAcpi(FullMachine(), user, kBase, kLimit);
  ASSERT_TRUE(image.has_value());
  EXPECT_EQ(Walk(*image).at("FACP").size(), 148U);
}

TEST(Acpi, UserMadtGivesOnlyItsOverrides) {
  const std::vector<AcpiTable> user = {
      UserTable("APIC", {0, 0,  0, 0, 0,  0, 0, 0,              //
                         0, 8,  9, 9, 1,  0, 0, 0,              // a processor: ignored
                         2, 10, 0, 7, 20, 0, 0, 0, 0x0f, 0})};  // IRQ 7 at GSI 20
  const Bytes madt = Walk(*BuildAcpi(FullMachine(), user, kBase, kLimit)).at("APIC");
  const Bytes entry = {2, 10, 0, 7, 20, 0, 0, 0, 0x0f, 0};
  EXPECT_NE(std::search(madt.begin(), madt.end(), entry.begin(), entry.end()), madt.end());
  EXPECT_EQ(madt.size(), BuildMadt(FullMachine()).size() + entry.size());
}

TEST(Acpi, SaysWhenTheTablesDoNotFit) {
  const std::vector<AcpiTable> user = {UserTable("SSDT", Bytes(kLimit, 0))};
  const Result<AcpiImage> image = BuildAcpi(FullMachine(), user, kBase, kLimit);
  ASSERT_FALSE(image.has_value());
  EXPECT_EQ(image.error().kind(), ErrorKind::kInvalidArgument);
}

TEST(Acpi, ThousandProcessorsFit) {
  AcpiConfig config = FullMachine();
  config.apic_ids.clear();
  for (uint32_t i = 0; i < 1024; ++i) config.apic_ids.push_back(i);
  EXPECT_TRUE(BuildAcpi(config, {}, kBase, kLimit).has_value());
}

}  // namespace
}  // namespace crosvm::tables

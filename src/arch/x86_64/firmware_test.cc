#include "arch/x86_64/firmware.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <string>

namespace crosvm::x86_64 {
namespace {

constexpr uint64_t kRam = 64 << 20;

memory::GuestMemory Memory(const MemoryLayout& layout) {
  return *memory::GuestMemory::Create(layout.Regions());
}

tables::Bytes ReadGuest(const memory::GuestMemory& memory, uint64_t at, size_t size) {
  tables::Bytes out(size);
  EXPECT_TRUE(memory.ReadBytes(GuestAddr(at), out));
  return out;
}

std::string Text(const memory::GuestMemory& memory, uint64_t at, size_t size) {
  const tables::Bytes bytes = ReadGuest(memory, at, size);
  return {bytes.begin(), bytes.end()};
}

TEST(Firmware, TablesLieWhereAGuestSearches) {
  const MemoryLayout layout = *PlanMemory(kRam, 0, 40);
  const memory::GuestMemory memory = Memory(layout);
  const Result<FirmwareTables> tables = WriteTables(memory, layout, {.vcpu_count = 2});
  ASSERT_TRUE(tables.has_value());
  EXPECT_EQ(tables->rsdp, kRsdp);
  EXPECT_FALSE(tables->large_acpi);
  EXPECT_EQ(Text(memory, 0xe0000, 8), "RSD PTR ");
  EXPECT_EQ(Text(memory, 0xf0000, 5), "_SM3_");
  EXPECT_EQ(Text(memory, 0x9fc00, 4), "_MP_");
  EXPECT_EQ(Text(memory, 0xf8000, 4), "PCMP");
  const uint64_t xsdt = tables::LoadU64(ReadGuest(memory, 0xe0000, 36), 24);
  EXPECT_EQ(Text(memory, xsdt, 4), "XSDT");
  EXPECT_LT(xsdt, 0xf0000U);
}

TEST(Firmware, DescriptionFollowsTheLayout) {
  const MemoryLayout layout = *PlanMemory(kRam, 0, 40);
  const tables::AcpiConfig config = DescribeAcpi(layout, {.vcpu_count = 3, .serial_count = 2});
  EXPECT_EQ(config.apic_ids, (std::vector<uint32_t>{0, 1, 2}));
  EXPECT_EQ(config.power.pm1_event, 0xc000);
  EXPECT_EQ(config.power.pm1_control, 0xc004);
  EXPECT_EQ(config.power.pm_timer, 0xc008);
  EXPECT_EQ(config.power.reset_port, 0xcf9);
  EXPECT_EQ(config.serials.size(), 2U);
  EXPECT_EQ(config.pci->high_window.base, layout.pci_high.base);
  EXPECT_EQ(config.pci->ecam_base, kEcamBase);
  EXPECT_EQ(config.pci->interrupts.size(), 128U);
  const tables::AcpiConfig bare = DescribeAcpi(
      layout,
      {.serial_count = 0, .rtc = false, .pvpanic = false, .pm_timer = false, .reset_port = false});
  EXPECT_EQ(bare.power.reset_port, 0);
  EXPECT_EQ(bare.power.pm_timer, 0);
  EXPECT_EQ(bare.pvpanic_port, 0);
}

TEST(Firmware, LargeUserTablesMoveUp) {
  const MemoryLayout layout = *PlanMemory(kRam, 0, 40);
  const memory::GuestMemory memory = Memory(layout);
  MachineInfo info;
  const auto user = [](size_t size) {
    return *tables::ParseAcpiTable(tables::WrapTable("SSDT", 2, tables::Bytes(size, 0xa3)));
  };
  info.acpi_tables = {user(300'000)};
  const Result<FirmwareTables> tables = WriteTables(memory, layout, info);
  ASSERT_TRUE(tables.has_value());
  EXPECT_TRUE(tables->large_acpi);
  const uint64_t xsdt = tables::LoadU64(ReadGuest(memory, 0xe0000, 36), 24);
  EXPECT_GE(xsdt, kLargeAcpi.value());
  EXPECT_EQ(Text(memory, xsdt, 4), "XSDT");
  info.acpi_tables = {user(600'000), user(600'000)};
  EXPECT_FALSE(WriteTables(memory, layout, info).has_value());
}

class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/crosvm-firmware-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory_ = name;
  }
  void TearDown() override {
    for (const std::string& path : paths_) unlink(path.c_str());
    rmdir(directory_.c_str());
  }
  std::string Put(const std::string& name, const tables::Bytes& bytes) {
    const std::string path = directory_ + "/" + name;
    FILE* file = fopen(path.c_str(), "w");
    EXPECT_NE(file, nullptr);
    if (file == nullptr) return path;
    EXPECT_EQ(fwrite(bytes.data(), 1, bytes.size(), file), bytes.size());
    fclose(file);
    paths_.push_back(path);
    return path;
  }
  std::string directory_;
  std::vector<std::string> paths_;
};

TEST_F(Files, AcpiTableIsReadAndChecked) {
  tables::Bytes table = tables::WrapTable("SSDT", 2, tables::Bytes{1});
  EXPECT_EQ(ReadAcpiTable(Put("good", table))->name(), "SSDT");
  table.back() = 7;
  const Result<tables::AcpiTable> bad = ReadAcpiTable(Put("bad", table));
  ASSERT_FALSE(bad.has_value());
  EXPECT_NE(bad.error().ToString().find("/bad: table SSDT: the checksum"), std::string::npos)
      << bad.error().ToString();
  EXPECT_FALSE(ReadAcpiTable(directory_ + "/none").has_value());
}

TEST_F(Files, DmiOfAMachineIsCopied) {
  const tables::Bytes own = *tables::BuildSmbios({.manufacturer = "Acme"}, 0xf0000, 0x8000);
  Put("smbios_entry_point", tables::Bytes(own.begin(), own.begin() + 24));
  EXPECT_FALSE(ReadDmi(directory_).has_value());
  Put("DMI", tables::Bytes(own.begin() + 32, own.end()));
  const Result<DmiFiles> files = ReadDmi(directory_);
  ASSERT_TRUE(files.has_value());
  const MemoryLayout layout = *PlanMemory(kRam, 0, 40);
  const memory::GuestMemory memory = Memory(layout);
  MachineInfo info;
  info.dmi = *files;
  ASSERT_TRUE(WriteTables(memory, layout, info).has_value());
  EXPECT_EQ(ReadGuest(memory, 0xf0000, own.size()), own);
}

}  // namespace
}  // namespace crosvm::x86_64

// Every table goes through Intel's compiler: it must disassemble, and the DSDT must compile again
// without a warning.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "tables/acpi.h"
#include "tables/aml_resource.h"
#include "tables/test_machine.h"

namespace crosvm::tables {
namespace {

class Iasl : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/crosvm-iasl-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory_ = name;
    ASSERT_NE(Run("command -v iasl"), "") << "iasl is not installed (package acpica-tools)";
  }
  void TearDown() override { Run("rm -rf '" + directory_ + "'"); }

  static std::string Run(const std::string& command) {
    std::string out;
    FILE* pipe = popen((command + " 2>&1").c_str(), "r");
    if (pipe == nullptr) return out;
    char buffer[4096];
    for (size_t n = 0; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) out.append(buffer, n);
    pclose(pipe);
    return out;
  }

  // The disassembly; fails the test when iasl complains.
  std::string Disassemble(const std::string& name, const Bytes& table) {
    const std::string path = directory_ + "/" + name + ".aml";
    FILE* file = fopen(path.c_str(), "w");
    EXPECT_NE(file, nullptr);
    if (file == nullptr) return {};
    EXPECT_EQ(fwrite(table.data(), 1, table.size(), file), table.size());
    fclose(file);
    const std::string log = Run("cd " + directory_ + " && iasl -d " + name + ".aml");
    EXPECT_NE(log.find(name + ".dsl - "), std::string::npos) << log;
    for (const char* bad : {"rror", "arning", "nvalid", "Unknown"}) {
      EXPECT_EQ(log.find(bad), std::string::npos) << log;
    }
    return Run("cat " + directory_ + "/" + name + ".dsl");
  }

  void CompileAgain(const std::string& name) {
    const std::string log = Run("cd " + directory_ + " && iasl -p again " + name + ".dsl");
    EXPECT_NE(log.find("0 Errors, 0 Warnings"), std::string::npos) << log;
  }

  // A data table: every field known, no errors, the same bytes after compiling the disassembly.
  void RoundTrip(const std::string& name, const Bytes& table) {
    const std::string text = Disassemble(name, table);
    EXPECT_EQ(text.find("Incorrect checksum"), std::string::npos) << text;
    const std::string log = Run("cd " + directory_ + " && iasl -p again " + name + ".dsl");
    EXPECT_NE(log.find("0 Errors, 0 Warnings"), std::string::npos) << log;
  }

  std::string directory_;
};

TEST_F(Iasl, FullDsdtDisassemblesAndCompiles) {
  const std::string text = Disassemble("dsdt", BuildDsdt(FullMachine()));
  for (const char* part :
       {"Device (PCI0)", "EisaId (\"PNP0A08\")", "Name (_PRT", "Method (_OSC", "QWordMemory",
        "Name (_S5", "Device (COM4)", "Device (RTC0)", "QEMU0001", "Device (MBRD)", "ACPI0007"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part;
  }
  CompileAgain("dsdt");
}

TEST_F(Iasl, SmallestDsdtDisassemblesAndCompiles) {
  AcpiConfig config;
  config.apic_ids = {0};
  Disassemble("dsdt", BuildDsdt(config));
  CompileAgain("dsdt");
}

TEST_F(Iasl, ExtraTermsOfDevicesCompile) {
  AcpiConfig config = FullMachine();
  const aml::FieldUnit units[] = {{"STAT", 32}, {"", 96}, {"CAPA", 32}};
  config.extra_aml = aml::Device(
      "GFBY",
      {aml::Name("_HID", aml::String("GFSH0001")),
       aml::Name("_CRS", aml::ResourceTemplate(
                             {aml::FixedMemory32(0xd000'0000, 0x1000), aml::LevelInterrupt(5)})),
       aml::OperationRegion("REGS", aml::RegionSpace::kSystemMemory, aml::Integer(0xd000'0000),
                            aml::Integer(0x1000)),
       aml::Field("REGS", aml::FieldAccess::kDword, units), aml::Mutex("MUTX"),
       aml::Method("POLL", 1, aml::Serialized::kYes,
                   {aml::Acquire("MUTX", 0xffff), aml::Store(aml::Integer(0), aml::Local(0)),
                    aml::While(aml::Less(aml::Local(0), aml::Arg(0)),
                               {aml::Binary(aml::BinaryOp::kAdd, aml::Local(0), aml::Integer(1),
                                            aml::Local(0)),
                                aml::Notify("GFBY", aml::Integer(0x80))}),
                    aml::Release("MUTX"), aml::Return(aml::Path("STAT"))}),
       aml::Method("TWIC", 0, aml::Serialized::kYes,
                   {aml::Return(aml::Call("POLL", {aml::Integer(2)}))})});
  const std::string text = Disassemble("dsdt", BuildDsdt(config));
  EXPECT_NE(text.find("POLL (0x02)"), std::string::npos);
  CompileAgain("dsdt");
}

TEST_F(Iasl, DataTablesAreUnderstood) {
  AcpiConfig config = FullMachine();
  config.apic_ids = {0, 1, 300};
  RoundTrip("facp", BuildFadt(config, 0xe0040, 0xe0080));
  RoundTrip("apic", BuildMadt(config));
  RoundTrip("mcfg", BuildMcfg(*config.pci));
  const uint64_t addresses[] = {0xe1000, 0xe2000};
  RoundTrip("xsdt", BuildXsdt(addresses));
}

}  // namespace
}  // namespace crosvm::tables

#include <gtest/gtest.h>

#include "tables/acpi.h"

namespace crosvm::tables {
namespace {

TEST(AcpiUser, TakesAWholeTable) {
  const Bytes file = WrapTable("SSDT", 2, Bytes{1, 2, 3});
  const Result<AcpiTable> table = ParseAcpiTable(file);
  ASSERT_TRUE(table.has_value());
  EXPECT_EQ(table->name(), "SSDT");
  EXPECT_EQ(table->bytes, file);
}

TEST(AcpiUser, Hostile_WrongFilesAreRefusedWithTheReason) {
  const Bytes good = WrapTable("SSDT", 2, Bytes{1, 2, 3});
  const auto refused = [](Bytes file, std::string_view why) {
    const Result<AcpiTable> table = ParseAcpiTable(std::move(file));
    ASSERT_FALSE(table.has_value()) << why;
    EXPECT_NE(table.error().ToString().find(why), std::string::npos) << table.error().ToString();
  };
  refused({}, "0 bytes");
  refused(Bytes(good.begin(), good.begin() + 35), "35 bytes");
  refused(Bytes((1 << 20) + 1, 0), "not the size");
  Bytes longer = good;
  longer.push_back(0);
  refused(longer, "its header says 39 bytes, the file has 40");
  Bytes sum = good;
  sum.back() ^= 1;
  refused(sum, "checksum");
  Bytes name = good;
  name[0] = 0x7f;
  refused(name, "signature");
  refused(WrapTable("XSDT", 1, {}), "cannot be replaced");
}

TEST(AcpiUser, Hostile_BrokenMadtEntriesEndTheList) {
  AcpiTable madt;
  const auto overrides = [&](Bytes entries) {
    Bytes body(8, 0);
    body.insert(body.end(), entries.begin(), entries.end());
    madt.bytes = WrapTable("APIC", 5, body);
    return OverridesOf(madt);
  };
  EXPECT_TRUE(overrides({2, 0, 0, 0}).empty());
  EXPECT_TRUE(overrides({2, 1}).empty());
  EXPECT_TRUE(overrides({2, 200, 0}).empty());
  EXPECT_TRUE(overrides({2}).empty());
  EXPECT_TRUE(overrides({2, 4, 0, 0}).empty());
  const auto one = overrides({2, 10, 0, 9, 20, 1, 0, 0, 0x0d, 0, 2, 10, 0});
  ASSERT_EQ(one.size(), 1U);
  EXPECT_EQ(one[0].isa_irq, 9);
  EXPECT_EQ(one[0].gsi, 0x114U);
  EXPECT_EQ(one[0].flags, 0x0d);
}

}  // namespace
}  // namespace crosvm::tables

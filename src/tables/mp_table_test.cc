#include "tables/mp_table.h"

#include <gtest/gtest.h>

#include <map>

#include "tables/test_machine.h"

namespace crosvm::tables {
namespace {

MpConfig Machine() {
  return {.apic_ids = {0, 1, 2},
          .local_apic_address = 0xfee0'0000,
          .ioapic_address = 0xfec0'0000,
          .sci = 5,
          .pci_bus_count = 2,
          .interrupts = TestInterrupts()};
}

// Entries by type, walked as a guest does.
std::map<uint8_t, std::vector<Bytes>> Walk(const Bytes& table) {
  std::map<uint8_t, std::vector<Bytes>> entries;
  size_t at = 44;
  for (uint16_t i = 0; i < LoadU16(table, 34); ++i) {
    const size_t length = table.at(at) == 0 ? 20 : 8;
    entries[table[at]].emplace_back(table.begin() + static_cast<ptrdiff_t>(at),
                                    table.begin() + static_cast<ptrdiff_t>(at + length));
    at += length;
  }
  EXPECT_EQ(at, table.size());
  return entries;
}

TEST(MpTable, PointerNamesTheConfiguration) {
  const MpTable table = BuildMpTable(Machine(), 0xf8000);
  ASSERT_EQ(table.floating_pointer.size(), 16U);
  EXPECT_EQ(ByteSum(table.floating_pointer), 0);
  EXPECT_EQ(LoadU32(table.floating_pointer, 4), 0xf8000U);
  EXPECT_EQ(table.floating_pointer[9], 4);
  EXPECT_EQ(ByteSum(table.configuration), 0);
  EXPECT_EQ(LoadU16(table.configuration, 4), table.configuration.size());
  EXPECT_EQ(LoadU32(table.configuration, 36), 0xfee0'0000U);
}

TEST(MpTable, ListsProcessorsBusesAndInterrupts) {
  const auto entries = Walk(BuildMpTable(Machine(), 0xf8000).configuration);
  ASSERT_EQ(entries.at(0).size(), 3U);
  EXPECT_EQ(entries.at(0)[0][3], 3);
  EXPECT_EQ(entries.at(0)[1][3], 1);
  ASSERT_EQ(entries.at(1).size(), 3U);
  EXPECT_EQ(entries.at(1)[2], (Bytes{1, 2, 'I', 'S', 'A', ' ', ' ', ' '}));
  EXPECT_EQ(entries.at(2), (std::vector<Bytes>{{2, 3, 0x20, 1, 0, 0, 0xc0, 0xfe}}));
  EXPECT_EQ(entries.at(4),
            (std::vector<Bytes>{{4, 3, 0, 0, 2, 0, 0, 0}, {4, 1, 0, 0, 2, 0, 0xff, 1}}));
}

TEST(MpTable, GivesEachPinOneKindOfSource) {
  const auto entries = Walk(BuildMpTable(Machine(), 0xf8000).configuration);
  size_t isa = 0;
  size_t pci = 0;
  for (const Bytes& entry : entries.at(3)) {
    const bool is_pci_pin = entry[7] >= 9 && entry[7] <= 12;
    EXPECT_EQ(entry[4] == 0, is_pci_pin);
    EXPECT_EQ(entry[6], 3);
    if (is_pci_pin) {
      ++pci;
      EXPECT_EQ(entry[7], 9 + ((entry[5] >> 2) + (entry[5] & 3)) % 4);
    } else {
      ++isa;
      EXPECT_EQ(entry[5], entry[7]);
      EXPECT_EQ(LoadU16(entry, 2), entry[5] == 5 ? 0x0d : 0);
    }
  }
  EXPECT_EQ(pci, 128U);
  EXPECT_EQ(isa, 11U);  // 16 without the cascade and four PCI lines
}

TEST(MpTable, LeavesOutWhatItCannotName) {
  MpConfig config = Machine();
  config.apic_ids = {0, 254, 255, 300};
  EXPECT_EQ(Walk(BuildMpTable(config, 0).configuration).at(0).size(), 2U);
}

}  // namespace
}  // namespace crosvm::tables

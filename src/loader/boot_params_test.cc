#include "loader/boot_params.h"

#include <gtest/gtest.h>

#include "loader/test_file.h"

namespace crosvm::loader {
namespace {

using memory::GuestAddr;

TEST(BootParamsTest, FillsAnElfKernelsZeroPage) {
  const MemoryMapEntry map[] = {
      {.range = {GuestAddr(0), 0x9fc00}, .type = MemoryType::kRam},
      {.range = {GuestAddr(0xf0000), 0x10000}, .type = MemoryType::kReserved},
  };
  const Result<boot_params> params = BuildBootParams({
      .header = std::nullopt,
      .cmdline = GuestAddr(0x20000),
      .cmdline_size = 12,
      .initrd = GuestRange{GuestAddr(0x1'2345'6000), 0x1000},
      .setup_data = GuestAddr(0x4000),
      .rsdp = GuestAddr(0xe0000),
      .memory_map = map,
  });
  ASSERT_TRUE(params.has_value());
  EXPECT_EQ(params->hdr.boot_flag, 0xaa55);
  EXPECT_EQ(params->hdr.header, 0x53726448U);
  EXPECT_EQ(params->hdr.type_of_loader, 0xff);
  EXPECT_EQ(params->hdr.cmd_line_ptr, 0x20000U);
  EXPECT_EQ(params->hdr.cmdline_size, 12U);
  EXPECT_EQ(params->hdr.ramdisk_image, 0x23456000U);
  EXPECT_EQ(params->ext_ramdisk_image, 1U);
  EXPECT_EQ(params->hdr.ramdisk_size, 0x1000U);
  EXPECT_EQ(params->hdr.setup_data, 0x4000U);
  EXPECT_EQ(params->acpi_rsdp_addr, 0xe0000U);
  EXPECT_EQ(params->sentinel, 0);
  ASSERT_EQ(params->e820_entries, 2);
  EXPECT_EQ(params->e820_table[1].addr, 0xf0000U);
  EXPECT_EQ(params->e820_table[1].type, 2U);
}

TEST(BootParamsTest, KeepsTheImagesHeader) {
  setup_header header{};
  header.version = 0x020c;
  header.kernel_alignment = 0x200000;
  const Result<boot_params> params = BuildBootParams({.header = header,
                                                      .cmdline = {},
                                                      .initrd = {},
                                                      .setup_data = {},
                                                      .rsdp = {},
                                                      .memory_map = {}});
  EXPECT_EQ(params->hdr.version, 0x020c);
  EXPECT_EQ(params->hdr.kernel_alignment, 0x200000U);
}

TEST(BootParamsTest, HoldsOnly128Entries) {
  std::vector<MemoryMapEntry> map(128);
  BootParamsInput input;
  input.memory_map = map;
  EXPECT_EQ(BuildBootParams(input)->e820_entries, 128);
  map.resize(129);
  input.memory_map = map;
  EXPECT_FALSE(BuildBootParams(input).has_value());
}

TEST(BootParamsTest, WritesAPage) {
  const memory::GuestMemory memory = MakeMemory(0x2000);
  boot_params params{};
  params.hdr.boot_flag = 0xaa55;
  ASSERT_TRUE(WriteBootParams(memory, GuestAddr(0x1000), params).has_value());
  EXPECT_EQ(*memory.Read<uint16_t>(GuestAddr(0x11fe)), 0xaa55);
  EXPECT_FALSE(WriteBootParams(memory, GuestAddr(0x1001), params).has_value());
}

}  // namespace
}  // namespace crosvm::loader

#include "loader/pvh.h"

#include <gtest/gtest.h>

#include "loader/test_file.h"

namespace crosvm::loader {
namespace {

using memory::GuestAddr;

TEST(PvhTest, WritesInfoModuleAndMap) {
  const memory::GuestMemory memory = MakeMemory(0x10000);
  const MemoryMapEntry map[] = {
      {.range = {GuestAddr(0), 0x9fc00}, .type = MemoryType::kRam},
      {.range = {GuestAddr(0xf0000), 0x10000}, .type = MemoryType::kReserved},
  };
  const Result<GuestRange> range =
      WritePvhStartInfo(memory, GuestAddr(0x6000),
                        {.cmdline = GuestAddr(0x20000),
                         .initrd = GuestRange{GuestAddr(0x100000), 0x345},
                         .rsdp = GuestAddr(0xe0000),
                         .memory_map = map});
  ASSERT_TRUE(range.has_value());
  EXPECT_EQ(range->size, 56U + 32 + 2 * 24);
  const auto info = *memory.Read<PvhStartInfo>(GuestAddr(0x6000));
  EXPECT_EQ(info.magic.value(), 0x336ec578U);
  EXPECT_EQ(info.version.value(), 1U);
  EXPECT_EQ(info.module_count.value(), 1U);
  EXPECT_EQ(info.cmdline.value(), 0x20000U);
  EXPECT_EQ(info.rsdp.value(), 0xe0000U);
  EXPECT_EQ(info.memory_map_entries.value(), 2U);
  const auto module = *memory.Read<PvhModule>(GuestAddr(info.modules));
  EXPECT_EQ(module.address.value(), 0x100000U);
  EXPECT_EQ(module.size.value(), 0x345U);
  const auto second = *memory.Read<PvhMemoryMapEntry>(GuestAddr(info.memory_map + 24));
  EXPECT_EQ(second.address.value(), 0xf0000U);
  EXPECT_EQ(second.type.value(), 2U);
}

TEST(PvhTest, NoInitrdNoModule) {
  const memory::GuestMemory memory = MakeMemory(0x10000);
  ASSERT_TRUE(WritePvhStartInfo(memory, GuestAddr(0x6000), {}).has_value());
  const auto info = *memory.Read<PvhStartInfo>(GuestAddr(0x6000));
  EXPECT_EQ(info.module_count.value(), 0U);
  EXPECT_EQ(info.modules.value(), 0U);
  EXPECT_FALSE(WritePvhStartInfo(memory, GuestAddr(0xfff0), {}).has_value());
}

}  // namespace
}  // namespace crosvm::loader

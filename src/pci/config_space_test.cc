#include "pci/config_space.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/endian.h"

namespace crosvm::pci {
namespace {

constexpr Identity kIdentity = {.vendor = 0x1af4,
                                .device = 0x1042,
                                .subsystem_vendor = 0x1af4,
                                .subsystem = 0x0042,
                                .revision = 1,
                                .base_class = 0x01};

uint32_t Read32(const ConfigSpace& config, uint32_t offset) {
  std::array<uint8_t, 4> data{};
  config.Read(offset, data);
  return std::bit_cast<Le32>(data);
}

template <typename T>
BarChanges Write(ConfigSpace& config, uint32_t offset, T value) {
  std::array<uint8_t, sizeof(T)> data;
  for (size_t i = 0; i < sizeof(T); ++i) data[i] = static_cast<uint8_t>(uint64_t{value} >> (8 * i));
  return config.Write(offset, data);
}

TEST(ConfigSpaceTest, HeaderSaysWhatTheFunctionIs) {
  const ConfigSpace config(kIdentity);
  EXPECT_EQ(Read32(config, 0), 0x10421af4U);
  EXPECT_EQ(Read32(config, 8), 0x01000001U);
  EXPECT_EQ(Read32(config, 0x2c), 0x00421af4U);
  EXPECT_EQ(Read32(config, 4), 0U);
}

TEST(ConfigSpaceTest, IdentityCannotBeWritten) {
  ConfigSpace config(kIdentity);
  for (const uint32_t offset : {0x00U, 0x08U, 0x2cU, 0x34U}) Write(config, offset, 0xffff'ffffU);
  EXPECT_EQ(Read32(config, 0), 0x10421af4U);
  EXPECT_EQ(Read32(config, 8), 0x01000001U);
  EXPECT_EQ(Read32(config, 0x2c), 0x00421af4U);
  EXPECT_EQ(Read32(config, 0x34), 0U);
}

struct SizingCase {
  BarSpec spec;
  uint32_t low;
  uint32_t high;
};

// PCI 3.0, 6.2.5.1: all ones written, the size is in the zeroes that come back.
TEST(ConfigSpaceTest, SizingByAllOnes) {
  const SizingCase cases[] = {
      {{.kind = BarKind::kMemory32, .size = 0x8000}, 0xffff'8000, 0},
      {{.kind = BarKind::kMemory32, .size = 0x10, .prefetchable = true}, 0xffff'fff8, 0},
      {{.kind = BarKind::kMemory64, .size = 0x4000}, 0xffff'c004, 0xffff'ffff},
      {{.kind = BarKind::kMemory64, .size = uint64_t{1} << 33, .prefetchable = true},
       0x0000'000c,
       0xffff'fffe},
      {{.kind = BarKind::kIo, .size = 0x40}, 0x0000'ffc1, 0},
  };
  for (const SizingCase& test : cases) {
    ConfigSpace config(kIdentity);
    ASSERT_TRUE(config.AddBar(2, test.spec).has_value());
    Write(config, 0x18, 0xffff'ffffU);
    Write(config, 0x1c, 0xffff'ffffU);
    EXPECT_EQ(Read32(config, 0x18), test.low);
    EXPECT_EQ(Read32(config, 0x1c), test.high);
    EXPECT_EQ(Read32(config, 0x20), 0U);
  }
}

TEST(ConfigSpaceTest, BadBarsAreRefused) {
  ConfigSpace config(kIdentity);
  EXPECT_FALSE(config.AddBar(0, {.kind = BarKind::kMemory32, .size = 0x3000}).has_value());
  EXPECT_FALSE(config.AddBar(0, {.kind = BarKind::kMemory32, .size = 8}).has_value());
  EXPECT_FALSE(config.AddBar(0, {.kind = BarKind::kIo, .size = 512}).has_value());
  EXPECT_FALSE(
      config.AddBar(0, {.kind = BarKind::kMemory32, .size = uint64_t{1} << 32}).has_value());
  EXPECT_FALSE(config.AddBar(5, {.kind = BarKind::kMemory64, .size = 0x1000}).has_value());
  EXPECT_FALSE(config.AddBar(6, {.kind = BarKind::kMemory32, .size = 0x1000}).has_value());
  ASSERT_TRUE(config.AddBar(0, {.kind = BarKind::kMemory64, .size = 0x1000}).has_value());
  EXPECT_FALSE(config.AddBar(1, {.kind = BarKind::kMemory32, .size = 0x1000}).has_value());
}

TEST(ConfigSpaceTest, BarsDecodeOnlyWhileTheCommandRegisterSaysSo) {
  ConfigSpace config(kIdentity);
  ASSERT_TRUE(config.AddBar(0, {.kind = BarKind::kMemory32, .size = 0x1000}).has_value());
  ASSERT_TRUE(config.AddBar(1, {.kind = BarKind::kIo, .size = 0x20}).has_value());
  ASSERT_TRUE(config.SetBarAddress(0, 0xd000'1000).has_value());
  ASSERT_TRUE(config.SetBarAddress(1, 0xc020).has_value());
  EXPECT_FALSE(config.Decoded(0).has_value());
  EXPECT_FALSE(config.Decoded(1).has_value());

  const BarChanges memory = Write(config, PCI_COMMAND, uint16_t{PCI_COMMAND_MEMORY});
  ASSERT_EQ(memory.size(), 1U);
  EXPECT_EQ(memory.begin()->bar, 0);
  EXPECT_EQ(memory.begin()->base, 0xd000'1000U);

  const BarChanges io = Write(config, PCI_COMMAND, uint16_t{PCI_COMMAND_IO});
  ASSERT_EQ(io.size(), 2U);
  EXPECT_FALSE(io.begin()->base.has_value());
  EXPECT_EQ((io.begin() + 1)->base, 0xc020U);
}

TEST(ConfigSpaceTest, MovesComeBackAsValues) {
  ConfigSpace config(kIdentity);
  ASSERT_TRUE(config.AddBar(4, {.kind = BarKind::kMemory64, .size = 0x1'0000}).has_value());
  ASSERT_TRUE(config.SetBarAddress(4, 0x1'0000'0000).has_value());
  Write(config, PCI_COMMAND, uint16_t{PCI_COMMAND_MEMORY});
  const BarChanges high = Write(config, 0x24, 0x7fU);
  ASSERT_EQ(high.size(), 1U);
  EXPECT_EQ(high.begin()->base, 0x7f'0000'0000U);
  // A byte alone, below the size's alignment: no move.
  EXPECT_TRUE(Write(config, 0x20, uint8_t{0xff}).empty());
  EXPECT_EQ(Write(config, 0x22, uint8_t{0x05}).begin()->base, 0x7f'0005'0000U);
}

TEST(ConfigSpaceTest, BarAddressesAreChecked) {
  ConfigSpace config(kIdentity);
  ASSERT_TRUE(config.AddBar(0, {.kind = BarKind::kMemory32, .size = 0x1000}).has_value());
  EXPECT_FALSE(config.SetBarAddress(0, 0xd000'0800).has_value());
  EXPECT_FALSE(config.SetBarAddress(0, 0x1'0000'0000).has_value());
  EXPECT_TRUE(config.SetBarAddress(0, 0xffff'f000).has_value());
  EXPECT_FALSE(config.SetBarAddress(1, 0).has_value());
}

TEST(ConfigSpaceTest, CapabilitiesAreChainedFrom0x40) {
  ConfigSpace config(kIdentity);
  const std::vector<uint8_t> odd(3, 0xaa);
  const std::vector<uint8_t> body(14, 0x55);
  EXPECT_EQ(config.AddCapability(0x09, odd).value(), 0x40);
  EXPECT_EQ(config.AddCapability(0x11, body).value(), 0x48);
  EXPECT_EQ(config.Load8(0x34), 0x40);
  EXPECT_EQ(config.Load16(0x40), 0x4809);
  EXPECT_EQ(config.Load16(0x48), 0x0011);
  EXPECT_EQ(config.Load16(PCI_STATUS), PCI_STATUS_CAP_LIST);
  const std::vector<uint8_t> too_long(0xa8, 0);
  EXPECT_FALSE(config.AddCapability(0x09, too_long).has_value());
}

TEST(ConfigSpaceTest, CapabilityMasksAreHonoured) {
  ConfigSpace config(kIdentity);
  const uint8_t body[] = {0x01, 0x00};
  const uint8_t mask[] = {0x00, 0xc0};
  const uint8_t at = config.AddCapability(0x11, body, mask).value();
  Write(config, at, 0xffff'ffffU);
  EXPECT_EQ(config.Load32(at), 0xc001'0011U);
  EXPECT_FALSE(config.AddCapability(0x11, body, std::span(mask).first(1)).has_value());
}

TEST(ConfigSpaceTest, Hostile_AnyAccessAnywhere) {
  ConfigSpace config(kIdentity);
  ASSERT_TRUE(config.AddBar(0, {.kind = BarKind::kMemory64, .size = 0x1000}).has_value());
  for (const uint32_t base : {0U, 0x80U, 0xf8U, 0xffU, 0x100U, 0xff8U, 0xffff'fff8U}) {
    for (uint32_t offset = base; offset - base < 8; ++offset) {
      for (size_t length = 1; length <= 8; ++length) {
        std::vector<uint8_t> data(length, 0xff);
        config.Write(offset, data);
        config.Read(offset, data);
      }
    }
  }
  std::array<uint8_t, 4> beyond{1, 1, 1, 1};
  config.Read(0x100, beyond);
  EXPECT_EQ(beyond, (std::array<uint8_t, 4>{}));
}

}  // namespace
}  // namespace crosvm::pci

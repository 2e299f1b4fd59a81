#include "tables/smbios.h"

#include <gtest/gtest.h>

#include <map>

namespace crosvm::tables {
namespace {

constexpr uint64_t kBase = 0xf0000;
constexpr uint64_t kGib = uint64_t{1} << 30;

struct Parsed {
  Bytes fields;
  std::vector<std::string> strings;
};

std::vector<std::pair<int, Parsed>> Walk(const Bytes& image) {
  std::vector<std::pair<int, Parsed>> out;
  const size_t end = kSmbiosStructuresOffset + LoadU32(image, 12);
  EXPECT_EQ(end, image.size());
  size_t at = kSmbiosStructuresOffset;
  while (at < end) {
    Parsed parsed;
    const uint8_t length = image[at + 1];
    parsed.fields.assign(image.begin() + static_cast<ptrdiff_t>(at),
                         image.begin() + static_cast<ptrdiff_t>(at + length));
    at += length;
    if (image[at] == 0) ++at;
    while (image.at(at) != 0) {
      std::string text;
      while (image.at(at) != 0) text.push_back(static_cast<char>(image[at++]));
      parsed.strings.push_back(text);
      ++at;
    }
    ++at;
    out.emplace_back(parsed.fields[0], parsed);
  }
  EXPECT_EQ(at, end);
  return out;
}

SmbiosConfig Machine() {
  SmbiosConfig config;
  config.serial = "42";
  config.cpu_cores = 2;
  config.cpu_threads = 4;
  config.ram = {{0, 3 * kGib}, {4 * kGib, kGib}};
  config.oem_strings = {"one", "two"};
  return config;
}

TEST(Smbios, EntryPointLeadsToAllStructures) {
  const Result<Bytes> image = BuildSmbios(Machine(), kBase, 0x8000);
  ASSERT_TRUE(image.has_value());
  EXPECT_EQ(std::string(image->begin(), image->begin() + 5), "_SM3_");
  EXPECT_EQ(ByteSum(std::span(*image).first(24)), 0);
  EXPECT_EQ((*image)[6], 24);
  EXPECT_EQ(LoadU64(*image, 16), kBase + kSmbiosStructuresOffset);
  std::vector<int> types;
  for (const auto& [type, parsed] : Walk(*image)) types.push_back(type);
  EXPECT_EQ(types, (std::vector<int>{0, 1, 3, 4, 11, 16, 17, 19, 19, 32, 127}));
}

TEST(Smbios, FieldsHaveTheLengthsOfVersion32) {
  const std::map<int, size_t> lengths = {{0, 0x1a},  {1, 0x1b},  {3, 0x16},  {4, 0x30}, {11, 5},
                                         {16, 0x17}, {17, 0x28}, {19, 0x1f}, {32, 11},  {127, 4}};
  for (const auto& [type, parsed] : Walk(*BuildSmbios(Machine(), kBase, 0x8000))) {
    EXPECT_EQ(parsed.fields.size(), lengths.at(type)) << type;
    EXPECT_EQ(parsed.fields[1], lengths.at(type)) << type;
  }
}

TEST(Smbios, SaysWhatTheMachineHas) {
  for (const auto& [type, parsed] : Walk(*BuildSmbios(Machine(), kBase, 0x8000))) {
    if (type == 0) {
      EXPECT_EQ(parsed.strings[0], "crosvm");
      EXPECT_EQ(parsed.fields[0x13] & 0x10, 0x10);
    }
    if (type == 1) {
      EXPECT_EQ(parsed.strings, (std::vector<std::string>{"ChromiumOS", "crosvm", "42"}));
    }
    if (type == 4) {
      EXPECT_EQ(parsed.fields[0x23], 2);
      EXPECT_EQ(parsed.fields[0x25], 4);
    }
    if (type == 11) {
      EXPECT_EQ(parsed.strings, (std::vector<std::string>{"one", "two"}));
    }
    if (type == 16) {
      EXPECT_EQ(LoadU32(parsed.fields, 7), 4U << 20);
    }
    if (type == 17) {
      EXPECT_EQ(LoadU16(parsed.fields, 12), 4096);
    }
  }
}

TEST(Smbios, LargeMemoryUsesTheExtendedFields) {
  SmbiosConfig config = Machine();
  config.ram = {{0, 3 * kGib}, {4 * kGib, 5000 * kGib}};
  for (const auto& [type, parsed] : Walk(*BuildSmbios(config, kBase, 0x8000))) {
    if (type == 16) {
      EXPECT_EQ(LoadU32(parsed.fields, 7), 0x8000'0000U);
      EXPECT_EQ(LoadU64(parsed.fields, 0xf), 5003 * kGib);
    }
    if (type == 17) {
      EXPECT_EQ(LoadU16(parsed.fields, 12), 0x7fff);
      EXPECT_EQ(LoadU32(parsed.fields, 0x1c), 5003U << 10);
    }
  }
}

TEST(Smbios, RefusesWhatDoesNotFit) {
  SmbiosConfig config = Machine();
  config.serial = std::string("a\0b", 3);
  EXPECT_FALSE(BuildSmbios(config, kBase, 0x8000).has_value());
  config = Machine();
  config.oem_strings.assign(256, "x");
  EXPECT_FALSE(BuildSmbios(config, kBase, 0x8000).has_value());
  config.oem_strings.assign(200, std::string(200, 'x'));
  EXPECT_FALSE(BuildSmbios(config, kBase, 0x8000).has_value());
  config.oem_strings = {""};
  EXPECT_FALSE(BuildSmbios(config, kBase, 0x8000).has_value());
}

TEST(Smbios, UuidIsParsedIntoWireOrder) {
  const auto uuid = ParseSmbiosUuid("00112233-4455-6677-8899-aabbccddeeff");
  ASSERT_TRUE(uuid.has_value());
  EXPECT_EQ((*uuid)[0], 0x33);
  EXPECT_EQ((*uuid)[4], 0x55);
  EXPECT_EQ((*uuid)[8], 0x88);
  EXPECT_FALSE(ParseSmbiosUuid("00112233-4455-6677-8899-aabbccddeef").has_value());
  EXPECT_FALSE(ParseSmbiosUuid("00112233x4455-6677-8899-aabbccddeeff").has_value());
  EXPECT_FALSE(ParseSmbiosUuid("0g112233-4455-6677-8899-aabbccddeeff").has_value());
}

}  // namespace
}  // namespace crosvm::tables

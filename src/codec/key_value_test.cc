#include "codec/key_value.h"

#include <gtest/gtest.h>

#include "codec/test_types.h"

namespace crosvm::codec {
namespace {

using namespace test_types;

std::string ErrorOf(std::string_view text) {
  const Result<Disk> result = ParseKeyValue<Disk>(text);
  return result ? "no error" : result.error().ToString();
}

TEST(KeyValue, PositionalAndKeys) {
  const Disk disk =
      ParseKeyValue<Disk>("root.img,ro,queues=0x10,block_size=4K,id=a=b,cpus=1,cpus=2,bias=-3")
          .value();
  EXPECT_EQ(disk.path, "root.img");
  EXPECT_TRUE(disk.ro);
  EXPECT_EQ(disk.queues, 16);
  EXPECT_EQ(disk.block_size, 4096u);
  EXPECT_EQ(disk.id, "a=b");
  EXPECT_EQ(disk.cpus, (std::vector<uint32_t>{1, 2}));
  EXPECT_EQ(disk.bias, -3);
}

TEST(KeyValue, PathMayContainEquals) {
  EXPECT_EQ(ParseKeyValue<Disk>("/tmp/a=b.img,ro=off")->path, "/tmp/a=b.img");
  EXPECT_EQ(ParseKeyValue<Disk>("path=/x")->path, "/x");
  // In the first place even the name of a flag is a path.
  EXPECT_EQ(ParseKeyValue<Disk>("ro")->path, "ro");
  EXPECT_EQ(ParseKeyValue<Disk>("ro=true,path=x")->path, "x");
}

TEST(KeyValue, Booleans) {
  EXPECT_TRUE(ParseKeyValue<Disk>("x,ro=on")->ro);
  EXPECT_TRUE(ParseKeyValue<Disk>("x,ro=true")->ro);
  EXPECT_FALSE(ParseKeyValue<Disk>("x,ro=false")->ro);
  EXPECT_FALSE(ParseKeyValue<Disk>("x,ro=1"));
}

TEST(KeyValue, DashAndUnderscoreAreTheSame) {
  EXPECT_EQ(ParseKeyValue<Disk>("x,block-size=1024")->block_size, 1024u);
}

TEST(KeyValue, OtherSeparator) {
  const Disk disk = ParseKeyValue<Disk>("a,b:ro:id=x", {.separator = ':'}).value();
  EXPECT_EQ(disk.path, "a,b");
  EXPECT_EQ(disk.id, "x");
}

TEST(KeyValue, ErrorsNameTheKey) {
  EXPECT_EQ(
      ErrorOf("x,quick=1"),
      "\"quick\" is not a known key; known are: path, ro, queues, block_size, bias, id, cache, "
      "cpus, start");
  EXPECT_EQ(ErrorOf(""), "\"path\" is missing");
  EXPECT_EQ(ErrorOf("x,queues=two"), "queues: \"two\" is not a whole number");
  EXPECT_EQ(ErrorOf("x,queues=2K"), "queues: \"2K\" is not a whole number");
  EXPECT_EQ(ErrorOf("x,queues=300"), "queues: 300 is out of range, 1 to 256");
  EXPECT_EQ(ErrorOf("x,queues"), "\"queues\" needs a value: queues=…");
  EXPECT_EQ(ErrorOf("x,queues=1,queues=1"), "\"queues\" is given twice");
  EXPECT_EQ(ErrorOf("x,,ro"), "there is nothing before or after a \",\"");
  EXPECT_EQ(ErrorOf("x,ro,"), "there is nothing before or after a \",\"");
  EXPECT_EQ(ErrorOf("x,id=123456789012345678901"),
            "id: 21 bytes are too long, at most 20 are allowed");
}

TEST(KeyValue, FormatIsReadBack) {
  for (const std::string_view text :
       {"x", "x,ro=true", "x,queues=3,id=b,cache=never,cpus=4,cpus=5"}) {
    EXPECT_EQ(FormatKeyValue(ParseKeyValue<Disk>(text).value()), text);
  }
}

TEST(KeyValue, GrammarAndHelp) {
  EXPECT_EQ(GrammarOf<Disk>(),
            "PATH[,ro=BOOL][,queues=N][,block_size=SIZE][,bias=N][,id=ID][,cache=never|auto]"
            "[,cpus=N]…[,start=N]");
  const std::string help = HelpOf<Disk>();
  EXPECT_NE(help.find("queues=N                     number of queues (default 1)\n"),
            std::string::npos)
      << help;
}

TEST(KeyValue, Numbers) {
  EXPECT_EQ(ParseNumber("18446744073709551615").value(), UINT64_MAX);
  EXPECT_EQ(ParseNumber("1t", true).value(), uint64_t{1} << 40);
  for (const std::string_view text :
       {"", "-1", "+1", " 1", "1 ", "0x", "K", "18446744073709551616", "99999999999T", "1KK"}) {
    EXPECT_FALSE(ParseNumber(text, true)) << text;
  }
}

TEST(KeyValue, Hostile_LongInputIsLinearEnough) {
  std::string text = "x";
  for (int i = 0; i < 10000; ++i) text += ",cpus=1";
  EXPECT_FALSE(ParseKeyValue<Disk>(text));  // more items than the field allows
  EXPECT_FALSE(ParseKeyValue<Disk>(std::string(1 << 20, ',')));
  EXPECT_FALSE(ParseKeyValue<Disk>(std::string_view("x,\0=1", 5)));
}

}  // namespace
}  // namespace crosvm::codec

#include "loader/cmdline.h"

#include <gtest/gtest.h>

#include "loader/test_file.h"

namespace crosvm::loader {
namespace {

TEST(CmdlineTest, JoinsWithOneSpace) {
  Cmdline line(100);
  EXPECT_TRUE(line.Insert("reboot", "k").has_value());
  EXPECT_TRUE(line.Append("").has_value());
  EXPECT_TRUE(line.Append("quiet  splash").has_value());
  EXPECT_TRUE(line.Insert("root", "PARTUUID=1234").has_value());
  EXPECT_EQ(line.text(), "reboot=k quiet  splash root=PARTUUID=1234");
}

TEST(CmdlineTest, RefusesSpacesAndEquals) {
  Cmdline line(100);
  EXPECT_FALSE(line.Insert("a ", "b").has_value());
  EXPECT_FALSE(line.Insert("a", "b ").has_value());
  EXPECT_FALSE(line.Insert("a=", "b").has_value());
  EXPECT_FALSE(line.Insert("", "b").has_value());
  EXPECT_EQ(line.text(), "");
}

TEST(CmdlineTest, Hostile_NonPrintable) {
  Cmdline line(100);
  for (const char* text : {"heart\xe2\x99\xa5", "tab\t", "line\n", "\x7f"}) {
    EXPECT_FALSE(line.Append(text).has_value());
    EXPECT_FALSE(line.Insert(text, "x").has_value());
    EXPECT_FALSE(line.Insert("x", text).has_value());
  }
  EXPECT_FALSE(line.Append(std::string_view("a\0b", 3)).has_value());
  EXPECT_EQ(line.text(), "");
}

TEST(CmdlineTest, KeepsRoomForTheTerminator) {
  Cmdline line(4);
  EXPECT_FALSE(line.Append("abcd").has_value());
  EXPECT_TRUE(line.Append("abc").has_value());
  EXPECT_FALSE(line.Append("d").has_value());
  EXPECT_EQ(line.text(), "abc");
}

TEST(CmdlineTest, WritesTextAndTerminator) {
  Cmdline line(100);
  ASSERT_TRUE(line.Append("ab").has_value());
  const memory::GuestMemory memory = MakeMemory(0x1000);
  ASSERT_TRUE(memory.Write<uint8_t>(memory::GuestAddr(0x102), 0xff));
  ASSERT_TRUE(line.Write(memory, memory::GuestAddr(0x100)).has_value());
  EXPECT_EQ(*memory.Read<uint8_t>(memory::GuestAddr(0x101)), 'b');
  EXPECT_EQ(*memory.Read<uint8_t>(memory::GuestAddr(0x102)), 0);
  EXPECT_FALSE(line.Write(memory, memory::GuestAddr(0xffe)).has_value());
}

}  // namespace
}  // namespace crosvm::loader

#include "config/values.h"

#include <gtest/gtest.h>

namespace crosvm::config {
namespace {

TEST(CpuSet, KeepsOrderAndRepetitions) {
  const CpuSet set = CpuSet::Parse("4,0-2,0").value();
  EXPECT_EQ(set.cpus, (std::vector<uint32_t>{4, 0, 1, 2, 0}));
  EXPECT_EQ(set.ToString(), "4,0-2,0");
}

TEST(CpuSet, Refuses) {
  EXPECT_TRUE(CpuSet::Parse("")->cpus.empty());
  for (const char* text : {",", "1,", "-1", "1-", "1-2-3", "3-2", "a", "1 ", "0-4096"}) {
    EXPECT_FALSE(CpuSet::Parse(text)) << text;
  }
}

TEST(CpuSet, Hostile_RepeatedRangesAreBounded) {
  std::string text = "0-1023";
  for (int i = 0; i < 1000; ++i) text += ",0-1023";
  EXPECT_FALSE(CpuSet::Parse(text));
}

TEST(CpuAffinity, GlobalAndPerVcpu) {
  EXPECT_EQ(CpuAffinity::Parse("0,2-3")->all.cpus, (std::vector<uint32_t>{0, 2, 3}));
  const CpuAffinity affinity = CpuAffinity::Parse("0=1:1=2-3,0").value();
  ASSERT_EQ(affinity.per_vcpu.size(), 2u);
  EXPECT_EQ(affinity.per_vcpu[1].second.cpus, (std::vector<uint32_t>{2, 3, 0}));
  EXPECT_EQ(affinity.ToString(), "0=1:1=2-3,0");
  for (const char* text : {"0=1:0=2", "0=", "=1", "0=1:", "0=1:2", "0=1=2"}) {
    EXPECT_FALSE(CpuAffinity::Parse(text)) << text;
  }
}

TEST(MacAddress, ParsesAndRefuses) {
  EXPECT_EQ(MacAddress::Parse("52:54:00:Ab:cd:ef")->ToString(), "52:54:00:ab:cd:ef");
  for (const char* text : {"", "52:54:00:ab:cd", "52:54:00:ab:cd:ef:00", "52:54:00:ab:cd:g0",
                           "5:54:00:ab:cd:ef", "01:00:00:00:00:00"}) {
    EXPECT_FALSE(MacAddress::Parse(text)) << text;
  }
}

TEST(Ipv4Address, ParsesAndRefuses) {
  EXPECT_EQ(Ipv4Address::Parse("10.0.2.15")->value(), 0x0a00020fu);
  for (const char* text : {"", "10.0.2", "10.0.2.256", "10.0.2.15.1", "a.b.c.d", "10..2.1"}) {
    EXPECT_FALSE(Ipv4Address::Parse(text)) << text;
  }
}

}  // namespace
}  // namespace crosvm::config

#include "arch/x86_64/cpuid.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

namespace crosvm::x86_64 {
namespace {

using Entries = std::vector<kvm_cpuid_entry2>;

kvm_cpuid_entry2 Entry(uint32_t function, uint32_t index, CpuidRegisters registers) {
  kvm_cpuid_entry2 entry{};
  entry.function = function;
  entry.index = index;
  entry.eax = registers.eax;
  entry.ebx = registers.ebx;
  entry.ecx = registers.ecx;
  entry.edx = registers.edx;
  return entry;
}

Entries Vendor(bool amd, uint32_t maximum) {
  return {Entry(0, 0, {.eax = maximum, .ebx = amd ? 0x68747541U : 0x756e6547U})};
}

const kvm_cpuid_entry2* Find(const Entries& entries, uint32_t function, uint32_t index = 0) {
  for (const kvm_cpuid_entry2& entry : entries) {
    if (entry.function == function && entry.index == index) return &entry;
  }
  return nullptr;
}

CpuidRegisters NoHost(uint32_t, uint32_t) {
  return {};
}

Entries Filtered(Entries supported, uint32_t id, CpuidOptions options,
                 const CpuidReader& host = NoHost) {
  return FilterCpuid(supported, hypervisor::VcpuId(id), options, host);
}

CpuidOptions Cpus(uint32_t count, bool no_smt = false) {
  return {.topology = CpuTopology::For(count, no_smt)};
}

TEST(Cpuid, TopologyHasThreadsForEvenNumbers) {
  EXPECT_EQ(CpuTopology::For(4, false).threads_per_core, 2U);
  EXPECT_EQ(CpuTopology::For(4, true).threads_per_core, 1U);
  EXPECT_EQ(CpuTopology::For(3, false).threads_per_core, 1U);
  EXPECT_EQ(CpuTopology::For(1, false).cores(), 1U);
  EXPECT_EQ(CpuTopology::For(6, false).cores(), 3U);
}

TEST(Cpuid, FeatureLeafNamesTheVcpu) {
  Entries in = Vendor(false, 1);
  in.push_back(
      Entry(1, 0, {.eax = 0x123, .ebx = 0xffff'ffff, .ecx = 1U << 24 | 1U << 15, .edx = 1U << 28}));
  const Entries one = Filtered(in, 0, Cpus(1));
  EXPECT_EQ(Find(one, 1)->eax, 0x123U);
  EXPECT_EQ(Find(one, 1)->ebx, 0x800U);
  EXPECT_EQ(Find(one, 1)->ecx, (1U << 31) | (1U << 24) | (1U << 21));
  EXPECT_EQ(Find(one, 1)->edx, 0U);
  CpuidOptions options = Cpus(4);
  options.tsc_deadline = false;
  options.pmu = true;
  const Entries four = Filtered(in, 3, options);
  EXPECT_EQ(Find(four, 1)->ebx, 0x0304'0800U);
  EXPECT_EQ(Find(four, 1)->ecx, (1U << 31) | (1U << 21) | (1U << 15));
  EXPECT_EQ(Find(four, 1)->edx, 1U << 28);
}

TEST(Cpuid, TopologyLeavesAreMadeAnew) {
  Entries in = Vendor(false, 0x1f);
  in.push_back(Entry(0xb, 0, {.eax = 9, .ebx = 9}));
  in.push_back(Entry(0xb, 1, {.eax = 9, .ebx = 9}));
  const Entries out = Filtered(in, 5, Cpus(6));
  EXPECT_EQ(std::ranges::count(out, 0xbU, &kvm_cpuid_entry2::function), 3);
  for (const uint32_t leaf : {0xbU, 0x1fU}) {
    ASSERT_NE(Find(out, leaf, 2), nullptr);
    EXPECT_EQ(Find(out, leaf, 0)->eax, 1U);
    EXPECT_EQ(Find(out, leaf, 0)->ebx, 2U);
    EXPECT_EQ(Find(out, leaf, 0)->ecx, 0x100U);
    EXPECT_EQ(Find(out, leaf, 1)->eax, 3U);
    EXPECT_EQ(Find(out, leaf, 1)->ebx, 6U);
    EXPECT_EQ(Find(out, leaf, 1)->ecx, 0x201U);
    EXPECT_EQ(Find(out, leaf, 2)->ebx, 0U);
    EXPECT_EQ(Find(out, leaf, 1)->edx, 5U);
    EXPECT_EQ(Find(out, leaf, 1)->flags, uint32_t{KVM_CPUID_FLAG_SIGNIFCANT_INDEX});
  }
  EXPECT_EQ(Find(Filtered(Vendor(false, 0xd), 0, Cpus(1)), 0x1f), nullptr);
  EXPECT_EQ(Find(Filtered(Vendor(false, 0xd), 0, Cpus(1)), 0xb)->eax, 0U);
}

TEST(Cpuid, IntelCachesAreSharedByOurThreads) {
  Entries in = Vendor(false, 0xb);
  for (uint32_t i = 0; i < 4; ++i) in.push_back(Entry(4, i, {}));
  const auto host = [](uint32_t leaf, uint32_t index) -> CpuidRegisters {
    const std::array<uint32_t, 4> levels = {0x21, 0x42, 0x63, 0};
    return {.eax = leaf == 4 ? 0xffff'c000U | levels.at(index) : 0, .ebx = 77};
  };
  const Entries out = Filtered(in, 0, Cpus(6), host);
  EXPECT_EQ(Find(out, 4, 0)->eax, (3U << 26) | (1U << 14) | 0x21);
  EXPECT_EQ(Find(out, 4, 0)->ebx, 77U);
  EXPECT_EQ(Find(out, 4, 2)->eax, (3U << 26) | (7U << 14) | 0x63);
}

TEST(Cpuid, AmdLeavesSayTheSame) {
  Entries in = Vendor(true, 0xd);
  in.push_back(Entry(0x8000'0001, 0, {.ecx = (1U << 22) | (1U << 23) | (1U << 24)}));
  in.push_back(Entry(0x8000'0008, 0, {.eax = 0x3028, .ecx = 0xffff'ffff}));
  in.push_back(Entry(0x8000'001d, 0, {.eax = 0x121}));
  in.push_back(Entry(0x8000'001d, 3, {.eax = 0x163}));
  in.push_back(Entry(0x8000'001d, 4, {.eax = 0}));
  in.push_back(Entry(0x8000'001e, 0, {.eax = 99, .ebx = 99, .ecx = 99, .edx = 99}));
  const Entries out = Filtered(in, 3, Cpus(4));
  EXPECT_EQ(Find(out, 0x8000'0001)->ecx, (1U << 22) | (1U << 1));
  EXPECT_EQ(Find(out, 0x8000'0008)->eax, 0x3028U);
  EXPECT_EQ(Find(out, 0x8000'0008)->ecx, 0xffff'0f00U | 3 | (2U << 12));
  EXPECT_EQ(Find(out, 0x8000'001d, 0)->eax, 0x121U | (1U << 14));
  EXPECT_EQ(Find(out, 0x8000'001d, 3)->eax, 0x163U | (3U << 14));
  EXPECT_EQ(Find(out, 0x8000'001d, 4)->eax, 0U);
  EXPECT_EQ(Find(out, 0x8000'001e)->eax, 3U);
  EXPECT_EQ(Find(out, 0x8000'001e)->ebx, 0x101U);
  EXPECT_EQ(Find(out, 0x8000'001e)->ecx, 0U);
}

TEST(Cpuid, IntelKeepsAmdFieldsReserved) {
  Entries in = Vendor(false, 0xd);
  in.push_back(Entry(0x8000'0001, 0, {.ecx = 1}));
  in.push_back(Entry(0x8000'0008, 0, {.eax = 0x3027}));
  const Entries out = Filtered(in, 3, Cpus(4));
  EXPECT_EQ(Find(out, 0x8000'0001)->ecx, 1U);
  EXPECT_EQ(Find(out, 0x8000'0008)->ecx, 0U);
}

TEST(Cpuid, HidesCountersAndEnergyBias) {
  Entries in = Vendor(false, 0xd);
  in.push_back(Entry(6, 0, {.eax = 4, .ecx = 9}));
  in.push_back(Entry(0xa, 0, {.eax = 0x0730'0404, .edx = 3}));
  EXPECT_EQ(Find(Filtered(in, 0, Cpus(1)), 0xa)->eax, 0U);
  EXPECT_EQ(Find(Filtered(in, 0, Cpus(1)), 6)->ecx, 1U);
  CpuidOptions options = Cpus(1);
  options.pmu = true;
  EXPECT_EQ(Find(Filtered(in, 0, options), 0xa)->eax, 0x0730'0404U);
}

TEST(Cpuid, HypervisorLeavesStay) {
  Entries in = Vendor(false, 0xd);
  in.push_back(Entry(0x4000'0000, 0, {.eax = 0x4000'0001, .ebx = 0x4b4d564b}));
  EXPECT_EQ(Find(Filtered(in, 0, Cpus(1)), 0x4000'0000)->ebx, 0x4b4d564bU);
}

TEST(Cpuid, HostSaysItsAddressBits) {
  EXPECT_EQ(PhysicalAddressBits(NoHost), 36);
  const auto host = [](uint32_t leaf, uint32_t) -> CpuidRegisters {
    return {.eax = leaf == 0x8000'0000 ? 0x8000'001fU : 0x3030U};
  };
  EXPECT_EQ(PhysicalAddressBits(host), 48);
  EXPECT_GE(PhysicalAddressBits(), 32);
}

TEST(Cpuid, BrandIsTrimmed) {
  Entries in = Vendor(true, 0xd);
  in.push_back(Entry(0x8000'0002, 0, {.eax = 0x20202020, .ebx = 0x43594245}));
  in.push_back(Entry(0x8000'0003, 0, {.eax = 0x00000020}));
  EXPECT_EQ(CpuBrand(in), "EBYC");
  in.push_back(Entry(1, 0, {.eax = 1, .edx = 2}));
  EXPECT_EQ(CpuSignature(in), 0x2'0000'0001U);
}

}  // namespace
}  // namespace crosvm::x86_64

#include "arch/x86_64/vcpu_state.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/endian.h"
#include "hypervisor/fake/fake_vcpu.h"
#include "testing/child_main.h"

namespace crosvm::x86_64 {
namespace {

using hypervisor::FakeVcpu;
using hypervisor::VcpuId;

const std::vector<kvm_cpuid_entry2>& Supported() {
  static const std::vector<kvm_cpuid_entry2> entries = [] {
    kvm_cpuid_entry2 first{};
    first.eax = 0xd;
    kvm_cpuid_entry2 sizes{};
    sizes.function = 0x8000'0008;
    sizes.eax = 0x3028;
    return std::vector<kvm_cpuid_entry2>{first, sizes};
  }();
  return entries;
}

VcpuSetup SetupFor(const InitialState* initial) {
  return {.supported_cpuid = Supported(), .cpuid = {}, .initial = initial};
}

uint64_t Word(const memory::GuestMemory& memory, GuestAddr at, uint64_t offset = 0) {
  return memory.Read<Le64>(GuestAddr(at.value() + offset)).value_or(Le64(~uint64_t{0}));
}

memory::GuestMemory SmallMemory() {
  const memory::RegionLayout regions[] = {{.start = GuestAddr(0), .size = 1 << 20}};
  return *memory::GuestMemory::Create(regions);
}

TEST(VcpuState, BootProcessorEntersLinuxInLongMode) {
  FakeVcpu vcpu(VcpuId(0));
  vcpu.x86().msrs[0xfe] = 8;
  vcpu.x86().sregs.apic_base = 0xfee0'0900;
  const InitialState initial = {
      .protocol = BootProtocol::kLinux64, .entry = GuestAddr(0x100'0200), .boot_data = kZeroPage};
  ASSERT_TRUE(ConfigureVcpu(vcpu, SetupFor(&initial)).has_value());
  const auto& state = vcpu.x86();
  EXPECT_EQ(state.regs.rip, 0x100'0200U);
  EXPECT_EQ(state.regs.rsi, 0x7000U);
  EXPECT_EQ(state.regs.rsp, 0x8000U);
  EXPECT_EQ(state.regs.rflags, 2U);
  EXPECT_EQ(state.sregs.cr0 & 0x8000'0001U, 0x8000'0001U);
  EXPECT_EQ(state.sregs.cr3, 0x9000U);
  EXPECT_EQ(state.sregs.cr4 & 0x20, 0x20U);
  EXPECT_EQ(state.sregs.efer, 0x500U);
  EXPECT_EQ(state.sregs.apic_base, 0xfee0'0900U);
  EXPECT_EQ(state.sregs.cs.selector, 8);
  EXPECT_EQ(state.sregs.cs.l, 1);
  EXPECT_EQ(state.sregs.cs.db, 0);
  EXPECT_EQ(state.sregs.cs.type, 0xb);
  EXPECT_EQ(state.sregs.ss.selector, 16);
  EXPECT_EQ(state.sregs.ss.type, 3);
  EXPECT_EQ(state.sregs.tr.type, 0xb);
  EXPECT_EQ(state.sregs.tr.s, 0);
  EXPECT_EQ(state.fpu.fcw, 0x37f);
  EXPECT_EQ(state.fpu.mxcsr, 0x1f80U);
  EXPECT_FALSE(state.cpuid.empty());
}

TEST(VcpuState, BootProcessorEntersPvhIn32Bits) {
  FakeVcpu vcpu(VcpuId(0));
  vcpu.x86().msrs[0xfe] = 8;
  vcpu.x86().sregs.cr0 = 0x6000'0010;
  const InitialState initial = {
      .protocol = BootProtocol::kPvh, .entry = GuestAddr(0x100'0000), .boot_data = kPvhStartInfo};
  ASSERT_TRUE(ConfigureVcpu(vcpu, SetupFor(&initial)).has_value());
  const auto& state = vcpu.x86();
  EXPECT_EQ(state.regs.rbx, 0x6000U);
  EXPECT_EQ(state.regs.rip, 0x100'0000U);
  EXPECT_EQ(state.sregs.cr0, 0x11U);
  EXPECT_EQ(state.sregs.cr4, 0U);
  EXPECT_EQ(state.sregs.efer, 0U);
  EXPECT_EQ(state.sregs.cs.l, 0);
  EXPECT_EQ(state.sregs.cs.db, 1);
  EXPECT_EQ(state.sregs.cs.limit, 0xffff'ffffU);
}

TEST(VcpuState, EveryProcessorGetsMsrsTypesAndLocalInterrupts) {
  FakeVcpu vcpu(VcpuId(1));
  vcpu.x86().msrs[0xfe] = 0x508;
  const uint32_t masked = 0x10000;
  memcpy(vcpu.x86().lapic.regs + 0x350, &masked, 4);
  const InitialState initial = {.entry = GuestAddr(0x100'0200)};
  ASSERT_TRUE(ConfigureVcpu(vcpu, SetupFor(&initial)).has_value());
  const auto& msrs = vcpu.x86().msrs;
  EXPECT_EQ(msrs.at(0x1a0), 1U);
  EXPECT_EQ(msrs.at(0x10), 0U);
  EXPECT_EQ(msrs.at(0x200), 0xd000'0000U);
  EXPECT_EQ(msrs.at(0x201), 0xff'f000'0800U);
  EXPECT_EQ(msrs.at(0x202), 0xe000'0000U);
  EXPECT_EQ(msrs.at(0x203), 0xff'e000'0800U);
  EXPECT_EQ(msrs.at(0x2ff), 0x806U);
  uint32_t lint0 = 0;
  uint32_t lint1 = 0;
  memcpy(&lint0, vcpu.x86().lapic.regs + 0x350, 4);
  memcpy(&lint1, vcpu.x86().lapic.regs + 0x360, 4);
  EXPECT_EQ(lint0, 0x10700U);
  EXPECT_EQ(lint1, 0x400U);
  EXPECT_EQ(vcpu.x86().regs.rip, 0U);  // waits for its start-up IPI
}

TEST(VcpuState, DoesWithoutMemoryTypeRegisters) {
  FakeVcpu vcpu(VcpuId(0));
  vcpu.x86().msrs[0xfe] = 1;
  const InitialState initial = {.entry = GuestAddr(0x100'0200)};
  ASSERT_TRUE(ConfigureVcpu(vcpu, SetupFor(&initial)).has_value());
  EXPECT_FALSE(vcpu.x86().msrs.contains(0x200));
}

TEST(VcpuState, FirmwareStartsAtTheResetVector) {
  FakeVcpu vcpu(VcpuId(0));
  vcpu.x86().regs.rip = 0xfff0;
  ASSERT_TRUE(ConfigureVcpu(vcpu, SetupFor(nullptr)).has_value());
  EXPECT_EQ(vcpu.x86().regs.rip, 0xfff0U);
  EXPECT_TRUE(vcpu.x86().msrs.empty());
  EXPECT_FALSE(vcpu.x86().cpuid.empty());
}

TEST(VcpuState, MtrrRangesAreNaturallyAligned) {
  const auto check = [](uint64_t base, uint64_t size, size_t count) {
    const std::vector<MtrrRange> ranges = SplitForMtrr(base, size);
    EXPECT_EQ(ranges.size(), count);
    uint64_t at = base;
    for (const MtrrRange& range : ranges) {
      EXPECT_EQ(range.base, at);
      EXPECT_EQ(range.size & (range.size - 1), 0U);
      EXPECT_EQ(range.base & (range.size - 1), 0U);
      at += range.size;
    }
    EXPECT_EQ(at, base + size);
  };
  check(0xd000'0000, 0x3000'0000, 2);
  check(0xf000'0000, 0x1000'0000, 1);
  check(0x1000, 0xf000, 4);
  check(0, 0x3000, 2);
  check(0x1000, 0, 0);
}

TEST(VcpuState, PageTablesMapFourGibOneToOne) {
  const memory::GuestMemory memory = SmallMemory();
  ASSERT_TRUE(WriteBootStructures(memory, BootProtocol::kLinux64).has_value());
  EXPECT_EQ(Word(memory, kPml4), 0xa003U);
  EXPECT_EQ(Word(memory, kPdpt), 0xb003U);
  EXPECT_EQ(Word(memory, kPdpt, 24), 0xe003U);
  EXPECT_EQ(Word(memory, kPdpt, 32), 0U);
  for (uint64_t page = 0; page < 2048; ++page) {
    ASSERT_EQ(Word(memory, kPageDirectories, page * 8), (page << 21) | 0x83);
  }
  EXPECT_EQ(Word(memory, kBootGdt), 0U);
  EXPECT_EQ(Word(memory, kBootGdt, 8), 0x00af'9b00'0000'ffffU);
  EXPECT_EQ(Word(memory, kBootGdt, 16), 0x00cf'9300'0000'ffffU);
  EXPECT_EQ(Word(memory, kBootGdt, 24), 0x008f'8b00'0000'ffffU);
}

TEST(VcpuState, PvhNeedsNoPageTables) {
  const memory::GuestMemory memory = SmallMemory();
  ASSERT_TRUE(WriteBootStructures(memory, BootProtocol::kPvh).has_value());
  EXPECT_EQ(Word(memory, kPml4), 0U);
  EXPECT_EQ(Word(memory, kBootGdt, 8), 0x00cf'9b00'0000'ffffU);
}

}  // namespace
}  // namespace crosvm::x86_64

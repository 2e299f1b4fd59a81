#include "arch/x86_64/vcpu_state.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/endian.h"
#include "base/log.h"

namespace crosvm::x86_64 {
namespace {

// Segment descriptors: limit 4 GiB, base 0; the flags are bits 40 to 55 of the descriptor without
// limit bits.
constexpr uint16_t kCode64 = 0xa09b;
constexpr uint16_t kCode32 = 0xc09b;
constexpr uint16_t kData = 0xc093;
constexpr uint16_t kBusyTss = 0x808b;
constexpr uint16_t kCodeIndex = 1;
constexpr uint16_t kDataIndex = 2;
constexpr uint16_t kTssIndex = 3;
constexpr size_t kGdtEntries = 4;

constexpr uint64_t kCr0Protected = 1U << 0;
constexpr uint64_t kCr0ExtensionType = 1U << 4;
constexpr uint64_t kCr0Paging = 1U << 31;
constexpr uint64_t kCr4Pae = 1U << 5;
constexpr uint64_t kEferLongEnable = 1U << 8;
constexpr uint64_t kEferLongActive = 1U << 10;
constexpr uint64_t kFlagsReserved = 2;

constexpr uint64_t kPagePresentWritable = 0x3;
constexpr uint64_t kPageLarge = 0x80;
constexpr uint64_t kLargePage = 2 << 20;
constexpr size_t kTableEntries = 512;

constexpr uint32_t kMsrTsc = 0x10;
constexpr uint32_t kMsrMtrrCap = 0xfe;
constexpr uint32_t kMsrSysenterCs = 0x174;
constexpr uint32_t kMsrSysenterEsp = 0x175;
constexpr uint32_t kMsrSysenterEip = 0x176;
constexpr uint32_t kMsrMiscEnable = 0x1a0;
constexpr uint32_t kMsrMtrrFirst = 0x200;  // base, mask, base, mask, …
constexpr uint32_t kMsrMtrrDefault = 0x2ff;
constexpr uint32_t kMsrStar = 0xc000'0081;
constexpr uint32_t kMsrLstar = 0xc000'0082;
constexpr uint32_t kMsrCstar = 0xc000'0083;
constexpr uint32_t kMsrSyscallMask = 0xc000'0084;
constexpr uint32_t kMsrKernelGsBase = 0xc000'0102;
constexpr uint64_t kFastString = 1;
constexpr uint64_t kMtrrEnable = 0x800;
constexpr uint64_t kMtrrWriteBack = 6;
constexpr uint64_t kMtrrUncached = 0;

constexpr size_t kApicLvt0 = 0x350;
constexpr size_t kApicLvt1 = 0x360;
constexpr uint32_t kDeliveryNmi = 4;
constexpr uint32_t kDeliveryExtInt = 7;

constexpr uint64_t Descriptor(uint16_t flags) {
  constexpr uint64_t kLimit = 0xfffff;
  return (uint64_t{flags} << 40) | (kLimit & 0xffff) | ((kLimit >> 16) << 48);
}

kvm_segment Segment(uint16_t flags, uint16_t index) {
  kvm_segment segment{};
  segment.base = 0;
  segment.limit = 0xffff'ffff;
  segment.selector = static_cast<uint16_t>(index * 8);
  segment.type = flags & 0xf;
  segment.s = (flags >> 4) & 1;
  segment.dpl = (flags >> 5) & 3;
  segment.present = (flags >> 7) & 1;
  segment.avl = (flags >> 12) & 1;
  segment.l = (flags >> 13) & 1;
  segment.db = (flags >> 14) & 1;
  segment.g = (flags >> 15) & 1;
  return segment;
}

Status SetInitialRegisters(hypervisor::VcpuX86_64& vcpu, const InitialState& initial) {
  const bool long_mode = initial.protocol == BootProtocol::kLinux64;
  kvm_regs regs{};
  regs.rflags = kFlagsReserved;
  regs.rip = initial.entry.value();
  if (long_mode) {
    regs.rsp = kBootStack.value();
    regs.rbp = kBootStack.value();
    regs.rsi = initial.boot_data.value();
  } else {
    regs.rbx = initial.boot_data.value();
  }
  TRY(vcpu.SetRegs(regs));

  kvm_sregs sregs = TRY(vcpu.GetSregs());
  sregs.cs = Segment(long_mode ? kCode64 : kCode32, kCodeIndex);
  const kvm_segment data = Segment(kData, kDataIndex);
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
  sregs.tr = Segment(kBusyTss, kTssIndex);
  sregs.gdt.base = kBootGdt.value();
  sregs.gdt.limit = kGdtEntries * 8 - 1;
  sregs.idt.base = kBootIdt.value();
  sregs.idt.limit = 7;
  if (long_mode) {
    sregs.cr0 |= kCr0Protected | kCr0Paging;
    sregs.cr3 = kPml4.value();
    sregs.cr4 |= kCr4Pae;
    sregs.efer |= kEferLongEnable | kEferLongActive;
  } else {
    // PVH: PE alone (and ET, which cannot be clear); cr4 zero.
    sregs.cr0 = kCr0Protected | kCr0ExtensionType;
    sregs.cr4 = 0;
    sregs.efer = 0;
  }
  return vcpu.SetSregs(sregs);
}

Status SetCommonMsrs(hypervisor::VcpuX86_64& vcpu) {
  std::vector<kvm_msr_entry> msrs;
  const auto add = [&msrs](uint32_t index, uint64_t value) {
    kvm_msr_entry entry{};
    entry.index = index;
    entry.data = value;
    msrs.push_back(entry);
  };
  for (const uint32_t index : {kMsrSysenterCs, kMsrSysenterEsp, kMsrSysenterEip, kMsrStar,
                               kMsrCstar, kMsrKernelGsBase, kMsrSyscallMask, kMsrLstar, kMsrTsc}) {
    add(index, 0);
  }
  add(kMsrMiscEnable, kFastString);
  return vcpu.SetMsrs(msrs);
}

// Everything is write-back but the hole below 4 GiB. A vCPU without enough MTRRs is usable, only
// slower to boot.
Status SetMemoryTypes(hypervisor::VcpuX86_64& vcpu, uint8_t physical_bits) {
  const std::vector<MtrrRange> holes = SplitForMtrr(kLowRamLimit, k4Gib - kLowRamLimit);
  const uint32_t cap_index[] = {kMsrMtrrCap};
  const Result<std::vector<kvm_msr_entry>> cap = vcpu.GetMsrs(cap_index);
  if (!cap || cap->empty() || (cap->front().data & 0xff) < holes.size()) {
    LOG_WARN("vcpu {}: the host offers too few memory type registers; leaving them alone",
             vcpu.id().value());
    return {};
  }
  const uint64_t address_mask = (uint64_t{1} << physical_bits) - 1;
  std::vector<kvm_msr_entry> msrs;
  const auto add = [&msrs](uint32_t index, uint64_t value) {
    kvm_msr_entry entry{};
    entry.index = index;
    entry.data = value;
    msrs.push_back(entry);
  };
  for (uint32_t i = 0; i < holes.size(); ++i) {
    add(kMsrMtrrFirst + 2 * i, holes[i].base | kMtrrUncached);
    add(kMsrMtrrFirst + 2 * i + 1, (address_mask & ~(holes[i].size - 1)) | kMtrrEnable);
  }
  add(kMsrMtrrDefault, kMtrrEnable | kMtrrWriteBack);
  return vcpu.SetMsrs(msrs);
}

Status SetFpu(hypervisor::VcpuX86_64& vcpu) {
  kvm_fpu fpu{};
  fpu.fcw = 0x37f;
  fpu.mxcsr = 0x1f80;
  return vcpu.SetFpu(fpu);
}

void SetDeliveryMode(kvm_lapic_state& lapic, size_t offset, uint32_t mode) {
  uint32_t value = 0;
  memcpy(&value, lapic.regs + offset, sizeof(value));
  value = (value & ~0x700U) | (mode << 8);
  memcpy(lapic.regs + offset, &value, sizeof(value));
}

// LINT0 is wired to the 8259, LINT1 is the NMI: as the MADT and the MP table say.
Status SetLocalInterrupts(hypervisor::VcpuX86_64& vcpu) {
  kvm_lapic_state lapic = TRY(vcpu.GetLapic());
  SetDeliveryMode(lapic, kApicLvt0, kDeliveryExtInt);
  SetDeliveryMode(lapic, kApicLvt1, kDeliveryNmi);
  return vcpu.SetLapic(lapic);
}

uint8_t GuestPhysicalBits(std::span<const kvm_cpuid_entry2> cpuid) {
  constexpr uint32_t kAddressSizes = 0x8000'0008;
  constexpr uint8_t kWithoutLeaf = 36;
  const auto found = std::ranges::find(cpuid, kAddressSizes, &kvm_cpuid_entry2::function);
  if (found == cpuid.end()) return kWithoutLeaf;
  return std::clamp<uint8_t>(static_cast<uint8_t>(found->eax), kWithoutLeaf, 52);
}

Status WriteWord(const memory::GuestMemory& memory, uint64_t address, uint64_t value) {
  if (memory.Write(GuestAddr(address), Le64(value))) return {};
  return Fail(ErrorKind::kInternal, "no guest memory at {:#x} for the boot structures", address);
}

}  // namespace

std::vector<MtrrRange> SplitForMtrr(uint64_t base, uint64_t size) {
  std::vector<MtrrRange> ranges;
  while (size != 0) {
    const uint64_t alignment = base == 0 ? UINT64_MAX : base & (~base + 1);
    const uint64_t part = std::min(alignment, std::bit_floor(size));
    ranges.push_back({.base = base, .size = part});
    base += part;
    size -= part;
  }
  return ranges;
}

Status WriteBootStructures(const memory::GuestMemory& memory, BootProtocol protocol) {
  const uint64_t code = Descriptor(protocol == BootProtocol::kLinux64 ? kCode64 : kCode32);
  const std::array<uint64_t, kGdtEntries> gdt = {0, code, Descriptor(kData), Descriptor(kBusyTss)};
  for (size_t i = 0; i < gdt.size(); ++i) {
    TRY(WriteWord(memory, kBootGdt.value() + i * 8, gdt[i]));
  }
  TRY(WriteWord(memory, kBootIdt.value(), 0));
  if (protocol != BootProtocol::kLinux64) return {};
  TRY(WriteWord(memory, kPml4.value(), kPdpt.value() | kPagePresentWritable));
  constexpr size_t kDirectories = 4;
  for (size_t i = 0; i < kDirectories; ++i) {
    const uint64_t directory = kPageDirectories.value() + i * kPageSize;
    TRY(WriteWord(memory, kPdpt.value() + i * 8, directory | kPagePresentWritable));
    for (size_t entry = 0; entry < kTableEntries; ++entry) {
      const uint64_t page = (i * kTableEntries + entry) * kLargePage;
      TRY(WriteWord(memory, directory + entry * 8, page | kPageLarge | kPagePresentWritable));
    }
  }
  return {};
}

Status ConfigureVcpu(hypervisor::VcpuX86_64& vcpu, const VcpuSetup& setup) {
  const std::vector<kvm_cpuid_entry2> cpuid =
      FilterCpuid(setup.supported_cpuid, vcpu.id(), setup.cpuid);
  TRY_CONTEXT(vcpu.SetCpuid(cpuid), "setting CPUID of vcpu {}", vcpu.id().value());
  if (setup.initial == nullptr) return {};
  TRY_CONTEXT(SetCommonMsrs(vcpu), "setting registers of vcpu {}", vcpu.id().value());
  TRY_CONTEXT(SetMemoryTypes(vcpu, GuestPhysicalBits(cpuid)), "setting memory types of vcpu {}",
              vcpu.id().value());
  TRY_CONTEXT(SetFpu(vcpu), "setting the FPU of vcpu {}", vcpu.id().value());
  TRY_CONTEXT(SetLocalInterrupts(vcpu), "setting the local APIC of vcpu {}", vcpu.id().value());
  if (vcpu.id().value() != 0) return {};
  TRY_CONTEXT(SetInitialRegisters(vcpu, *setup.initial), "setting the entry of vcpu 0");
  return {};
}

}  // namespace crosvm::x86_64

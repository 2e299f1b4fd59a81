// The state in which a vCPU starts: registers by the boot protocol, MSRs, memory types, local APIC;
// and the structures in guest memory that those registers point to. Used by vm/ on each vCPU's
// thread before its first Run().
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "arch/x86_64/cpuid.h"
#include "arch/x86_64/layout.h"
#include "base/result.h"
#include "hypervisor/vcpu_x86_64.h"
#include "memory/guest_memory.h"

namespace crosvm::x86_64 {

enum class BootProtocol : uint8_t {
  kLinux64,  // long mode, identity-mapped, %rsi = zero page
  kPvh,      // 32-bit protected mode, %ebx = start info
};

// Where the boot processor begins. Made by LoadGuest().
struct InitialState {
  BootProtocol protocol = BootProtocol::kLinux64;
  GuestAddr entry;
  GuestAddr boot_data;  // zero page or start info
};

struct VcpuSetup {
  std::span<const kvm_cpuid_entry2> supported_cpuid;  // VmX86_64::GetSupportedCpuid()
  CpuidOptions cpuid;
  // Empty for firmware: the vCPU stays at its reset vector.
  const InitialState* initial = nullptr;
};

// Sets up one vCPU. The application processors get everything but the entry: they wait for the
// guest's start-up IPI.
Status ConfigureVcpu(hypervisor::VcpuX86_64& vcpu, const VcpuSetup& setup);

// GDT, IDT and page tables that map the first 4 GiB one to one; below 64 KiB. Once, before the boot
// processor runs.
Status WriteBootStructures(const memory::GuestMemory& memory, BootProtocol protocol);

// One naturally aligned power-of-two range, as a variable MTRR wants it.
struct MtrrRange {
  uint64_t base = 0;
  uint64_t size = 0;
};
// The fewest such ranges that make up [base, base + size).
std::vector<MtrrRange> SplitForMtrr(uint64_t base, uint64_t size);

}  // namespace crosvm::x86_64

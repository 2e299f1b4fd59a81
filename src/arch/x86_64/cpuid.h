// What a vCPU says about itself: the host's KVM's answer (KVM_GET_SUPPORTED_CPUID) with the
// topology, the caches and the identity of this VM put in. Pure but for HostCpuid().
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "hypervisor/vm.h"
#include "sys/linux_kvm.h"

namespace crosvm::x86_64 {

struct CpuidRegisters {
  uint32_t eax = 0;
  uint32_t ebx = 0;
  uint32_t ecx = 0;
  uint32_t edx = 0;
};
using CpuidReader = std::function<CpuidRegisters(uint32_t leaf, uint32_t subleaf)>;
// The instruction, on the CPU this thread runs on.
CpuidRegisters HostCpuid(uint32_t leaf, uint32_t subleaf);
// Physical address bits of the host, 36 when it does not say.
uint8_t PhysicalAddressBits(const CpuidReader& host = HostCpuid);

// One package. APIC ids are the vCPU ids; with two threads a core, 2n and 2n + 1 are siblings.
struct CpuTopology {
  uint32_t count = 1;
  uint32_t threads_per_core = 1;  // 1 or 2

  // Hyper-threads unless switched off (--no-smt) or the number is odd.
  static CpuTopology For(uint32_t count, bool no_smt);
  uint32_t cores() const { return count / threads_per_core; }
};

struct CpuidOptions {
  CpuTopology topology;
  bool tsc_deadline = true;  // KVM_CAP_TSC_DEADLINE_TIMER
  bool pmu = false;          // show performance counters
};

std::vector<kvm_cpuid_entry2> FilterCpuid(std::span<const kvm_cpuid_entry2> supported,
                                          hypervisor::VcpuId id, const CpuidOptions& options,
                                          const CpuidReader& host = HostCpuid);

// For SMBIOS: the brand string (leaves 0x80000002 to 4) and leaf 1's eax and edx.
std::string CpuBrand(std::span<const kvm_cpuid_entry2> entries);
uint64_t CpuSignature(std::span<const kvm_cpuid_entry2> entries);

}  // namespace crosvm::x86_64

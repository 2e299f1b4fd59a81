#include "arch/x86_64/cpuid.h"

#include <cpuid.h>

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace crosvm::x86_64 {
namespace {

constexpr uint32_t kFeatures = 1;
constexpr uint32_t kCacheDescriptors = 2;
constexpr uint32_t kCaches = 4;
constexpr uint32_t kThermal = 6;
constexpr uint32_t kPerformanceMonitoring = 0xa;
constexpr uint32_t kTopology = 0xb;
constexpr uint32_t kTopologyV2 = 0x1f;
constexpr uint32_t kExtendedMaximum = 0x8000'0000;
constexpr uint32_t kExtendedFeatures = 0x8000'0001;
constexpr uint32_t kBrandFirst = 0x8000'0002;
constexpr uint32_t kL1Amd = 0x8000'0005;
constexpr uint32_t kL2Amd = 0x8000'0006;
constexpr uint32_t kAddressSizes = 0x8000'0008;
constexpr uint32_t kCachesAmd = 0x8000'001d;
constexpr uint32_t kTopologyAmd = 0x8000'001e;
constexpr uint32_t kPerformanceMonitoringAmd = 0x8000'0022;

// Leaf 1.
constexpr uint32_t kEcxPdcm = 1U << 15;
constexpr uint32_t kEcxX2Apic = 1U << 21;
constexpr uint32_t kEcxTscDeadline = 1U << 24;
constexpr uint32_t kEcxHypervisor = 1U << 31;
constexpr uint32_t kEdxHyperThreading = 1U << 28;
// Leaf 6.
constexpr uint32_t kEcxEnergyBias = 1U << 3;
// Leaf 0x80000001.
constexpr uint32_t kEcxCmpLegacy = 1U << 1;
constexpr uint32_t kEcxPerformanceAmd = (1U << 23) | (1U << 24) | (1U << 28);

// Bits that numbers 0 to count - 1 need.
uint32_t BitsFor(uint32_t count) {
  return static_cast<uint32_t>(std::bit_width(count - 1));
}

bool IsAmd(std::span<const kvm_cpuid_entry2> entries) {
  // "Auth" of AuthenticAMD, "Hygo" of HygonGenuine.
  constexpr uint32_t kAuth = 0x6874'7541;
  constexpr uint32_t kHygo = 0x6f67'7948;
  return std::ranges::any_of(entries, [](const kvm_cpuid_entry2& entry) {
    return entry.function == 0 && (entry.ebx == kAuth || entry.ebx == kHygo);
  });
}

uint32_t MaximumLeaf(std::span<const kvm_cpuid_entry2> entries) {
  for (const kvm_cpuid_entry2& entry : entries) {
    if (entry.function == 0) return entry.eax;
  }
  return 0;
}

void Assign(kvm_cpuid_entry2& entry, const CpuidRegisters& registers) {
  entry.eax = registers.eax;
  entry.ebx = registers.ebx;
  entry.ecx = registers.ecx;
  entry.edx = registers.edx;
}

class Filter {
 public:
  Filter(hypervisor::VcpuId id, const CpuidOptions& options, const CpuidReader& host, bool amd)
      : id_(id.value()), options_(options), topology_(options.topology), host_(host), amd_(amd) {}

  void Apply(kvm_cpuid_entry2& entry) const {
    switch (entry.function) {
      case kFeatures:
        return Features(entry);
      case kCacheDescriptors:
      case kL1Amd:
      case kL2Amd:
      // KVM leaves the brand string empty.
      case kBrandFirst:
      case kBrandFirst + 1:
      case kBrandFirst + 2:
        return Assign(entry, host_(entry.function, 0));
      case kCaches:
        Assign(entry, host_(entry.function, entry.index));
        return IntelCache(entry);
      case kThermal:
        entry.ecx &= ~kEcxEnergyBias;
        return;
      case kPerformanceMonitoring:
      case kPerformanceMonitoringAmd:
        if (!options_.pmu) Assign(entry, {});
        return;
      case kExtendedFeatures:
        return ExtendedFeatures(entry);
      case kAddressSizes:
        if (amd_) AmdCoreCount(entry);
        return;
      case kCachesAmd:
        return CacheSharing(entry);
      case kTopologyAmd:
        return AmdTopology(entry);
      default:
        return;
    }
  }

  // Leaves 0xb and 0x1f: a thread level, a core level and the end.
  void AppendTopology(uint32_t leaf, std::vector<kvm_cpuid_entry2>& out) const {
    constexpr uint32_t kThreadLevel = 1;
    constexpr uint32_t kCoreLevel = 2;
    const auto add = [&](uint32_t index, uint32_t shift, uint32_t logical, uint32_t type) {
      kvm_cpuid_entry2 entry{};
      entry.function = leaf;
      entry.index = index;
      entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
      entry.eax = shift;
      entry.ebx = logical;
      entry.ecx = (type << 8) | index;
      entry.edx = id_;
      out.push_back(entry);
    };
    add(0, BitsFor(topology_.threads_per_core), topology_.threads_per_core, kThreadLevel);
    add(1, BitsFor(topology_.count), topology_.count & 0xffff, kCoreLevel);
    add(2, 0, 0, 0);
  }

 private:
  void Features(kvm_cpuid_entry2& entry) const {
    constexpr uint32_t kFlushLine = 8;  // in units of 8 bytes
    entry.ebx = ((id_ & 0xff) << 24) | (kFlushLine << 8);
    entry.ecx |= kEcxHypervisor | kEcxX2Apic;
    entry.ecx &= ~kEcxTscDeadline;
    if (options_.tsc_deadline) entry.ecx |= kEcxTscDeadline;
    if (!options_.pmu) entry.ecx &= ~kEcxPdcm;
    entry.edx &= ~kEdxHyperThreading;
    if (topology_.count > 1) {
      entry.ebx |= std::min<uint32_t>(topology_.count, 0xff) << 16;
      entry.edx |= kEdxHyperThreading;
    }
  }

  // Bits 25 to 14: how many threads share the cache, less one. Bits 7 to 5: its level.
  void CacheSharing(kvm_cpuid_entry2& entry) const {
    constexpr uint32_t kTypeMask = 0x1f;
    if ((entry.eax & kTypeMask) == 0) return;  // no such cache
    const uint32_t level = (entry.eax >> 5) & 7;
    const uint32_t threads =
        level < 3 ? topology_.threads_per_core : std::bit_ceil(topology_.count);
    entry.eax &= ~(0xfffU << 14);
    entry.eax |= std::min<uint32_t>(threads - 1, 0xfff) << 14;
  }

  void IntelCache(kvm_cpuid_entry2& entry) const {
    if (amd_ || (entry.eax & 0x1f) == 0) return;
    CacheSharing(entry);
    // Bits 31 to 26: core ids in the package, less one.
    entry.eax &= ~(0x3fU << 26);
    entry.eax |= std::min<uint32_t>(std::bit_ceil(topology_.cores()) - 1, 0x3f) << 26;
  }

  void ExtendedFeatures(kvm_cpuid_entry2& entry) const {
    if (!amd_) return;
    if (!options_.pmu) entry.ecx &= ~kEcxPerformanceAmd;
    entry.ecx &= ~kEcxCmpLegacy;
    if (topology_.count > 1) entry.ecx |= kEcxCmpLegacy;
  }

  void AmdCoreCount(kvm_cpuid_entry2& entry) const {
    entry.ecx &= ~0xf0ffU;
    entry.ecx |= std::min<uint32_t>(topology_.count - 1, 0xff);
    entry.ecx |= std::min<uint32_t>(BitsFor(topology_.count), 0xf) << 12;
  }

  void AmdTopology(kvm_cpuid_entry2& entry) const {
    entry.eax = id_;
    entry.ebx =
        ((id_ / topology_.threads_per_core) & 0xff) | ((topology_.threads_per_core - 1) << 8);
    entry.ecx = 0;  // one node, number 0
    entry.edx = 0;
  }

  const uint32_t id_;
  const CpuidOptions& options_;
  const CpuTopology& topology_;
  const CpuidReader& host_;
  const bool amd_;
};

}  // namespace

CpuidRegisters HostCpuid(uint32_t leaf, uint32_t subleaf) {
  CpuidRegisters out;
  // Fails, and leaves zeroes, when the leaf is above the CPU's maximum.
  (void)__get_cpuid_count(leaf, subleaf, &out.eax, &out.ebx, &out.ecx, &out.edx);
  return out;
}

uint8_t PhysicalAddressBits(const CpuidReader& host) {
  constexpr uint8_t kWithoutLeaf = 36;
  if (host(kExtendedMaximum, 0).eax < kAddressSizes) return kWithoutLeaf;
  const uint8_t bits = static_cast<uint8_t>(host(kAddressSizes, 0).eax & 0xff);
  return bits == 0 ? kWithoutLeaf : bits;
}

CpuTopology CpuTopology::For(uint32_t count, bool no_smt) {
  CHECK(count >= 1);
  return {.count = count, .threads_per_core = !no_smt && count % 2 == 0 ? 2U : 1U};
}

std::vector<kvm_cpuid_entry2> FilterCpuid(std::span<const kvm_cpuid_entry2> supported,
                                          hypervisor::VcpuId id, const CpuidOptions& options,
                                          const CpuidReader& host) {
  CHECK(options.topology.count >= 1 && options.topology.threads_per_core >= 1);
  const Filter filter(id, options, host, IsAmd(supported));
  std::vector<kvm_cpuid_entry2> out;
  for (const kvm_cpuid_entry2& entry : supported) {
    if (entry.function == kTopology || entry.function == kTopologyV2) continue;
    out.push_back(entry);
    filter.Apply(out.back());
  }
  const uint32_t maximum = MaximumLeaf(supported);
  if (maximum >= kTopology) filter.AppendTopology(kTopology, out);
  if (maximum >= kTopologyV2) filter.AppendTopology(kTopologyV2, out);
  return out;
}

std::string CpuBrand(std::span<const kvm_cpuid_entry2> entries) {
  std::string brand;
  for (uint32_t leaf = kBrandFirst; leaf < kBrandFirst + 3; ++leaf) {
    for (const kvm_cpuid_entry2& entry : entries) {
      if (entry.function != leaf) continue;
      for (const uint32_t word : {entry.eax, entry.ebx, entry.ecx, entry.edx}) {
        for (unsigned shift = 0; shift < 32; shift += 8) {
          const char c = static_cast<char>(word >> shift);
          if (c >= ' ' && c <= '~') brand.push_back(c);
        }
      }
    }
  }
  const size_t first = brand.find_first_not_of(' ');
  if (first == std::string::npos) return {};
  return brand.substr(first, brand.find_last_not_of(' ') - first + 1);
}

uint64_t CpuSignature(std::span<const kvm_cpuid_entry2> entries) {
  for (const kvm_cpuid_entry2& entry : entries) {
    if (entry.function == kFeatures) return entry.eax | (uint64_t{entry.edx} << 32);
  }
  return 0;
}

}  // namespace crosvm::x86_64

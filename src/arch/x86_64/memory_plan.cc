#include "arch/x86_64/memory_plan.h"

#include <algorithm>

#include "base/checked_math.h"

namespace crosvm::x86_64 {
namespace {

constexpr uint64_t kMinimumRam = 4 << 20;
constexpr uint64_t kHighAlignment = 2 << 20;
constexpr uint8_t kMinimumBits = 36;
// Beyond this a host with four-level nested paging cannot map.
constexpr uint8_t kMaximumBits = 46;
// AMD processors keep the last 12 GiB below 1 TiB for HyperTransport: neither RAM nor BARs work
// there.
constexpr uint64_t kHyperTransport = 0xfd'0000'0000;
constexpr uint64_t k1Tib = uint64_t{1} << 40;

uint64_t HighLimit(uint8_t physical_bits) {
  const uint64_t limit = uint64_t{1} << std::clamp(physical_bits, kMinimumBits, kMaximumBits);
  return limit == k1Tib ? kHyperTransport : limit;
}

}  // namespace

std::vector<memory::RegionLayout> MemoryLayout::Regions() const {
  std::vector<memory::RegionLayout> regions = ram;
  if (firmware) regions.push_back(*firmware);
  std::ranges::sort(regions, {}, &memory::RegionLayout::start);
  return regions;
}

Result<MemoryLayout> PlanMemory(uint64_t ram_size, uint64_t firmware_size, uint8_t physical_bits) {
  if (ram_size < kMinimumRam || !IsAligned(ram_size, kPageSize)) {
    return Fail(ErrorKind::kInvalidArgument,
                "memory of {} bytes: it must be at least 4 MiB and a multiple of 4 KiB", ram_size);
  }
  if (firmware_size > kFirmwareMax || !IsAligned(firmware_size, kPageSize)) {
    return Fail(ErrorKind::kInvalidArgument,
                "a BIOS image of {} bytes: it must be a multiple of 4 KiB and at most 16 MiB",
                firmware_size);
  }
  MemoryLayout layout;
  layout.low_ram_end = std::min(ram_size, kLowRamLimit);
  layout.ram.push_back({.start = GuestAddr(0), .size = layout.low_ram_end});
  if (firmware_size != 0) {
    layout.firmware =
        memory::RegionLayout{.start = GuestAddr(k4Gib - firmware_size), .size = firmware_size};
  }
  const uint64_t high = ram_size - layout.low_ram_end;
  const uint64_t limit = HighLimit(physical_bits);
  if (high > limit - k4Gib) {
    return Fail(ErrorKind::kInvalidArgument,
                "memory of {} MiB: the host's processor has {} address bits, so at most {} MiB fit",
                ram_size >> 20, physical_bits, (limit - k4Gib + kLowRamLimit) >> 20);
  }
  layout.high_ram_end = k4Gib + high;
  if (high != 0) layout.ram.push_back({.start = GuestAddr(k4Gib), .size = high});
  layout.pci_low = {.base = kPciLowBase, .size = kPciLowSize};
  // The sum cannot wrap: the limit is at most 2^46.
  const uint64_t window = (layout.high_ram_end + kHighAlignment - 1) & ~(kHighAlignment - 1);
  layout.pci_high = {.base = window, .size = limit > window ? limit - window : 0};
  return layout;
}

std::vector<loader::MemoryMapEntry> MemoryMap(const MemoryLayout& layout, bool large_acpi) {
  using loader::MemoryType;
  std::vector<loader::MemoryMapEntry> map;
  const auto add = [&map](uint64_t start, uint64_t end, MemoryType type) {
    if (end > start)
      map.push_back({.range = {.start = GuestAddr(start), .size = end - start}, .type = type});
  };
  constexpr uint64_t k640Kib = 0xa0000;
  constexpr uint64_t k1Mib = 0x10'0000;
  const uint64_t ram_start = large_acpi ? kLargeAcpi.value() + kLargeAcpiMax : k1Mib;
  add(0, kBaseMemoryEnd, MemoryType::kRam);
  add(kBaseMemoryEnd, k640Kib, MemoryType::kReserved);
  add(kRsdp.value(), k1Mib, MemoryType::kReserved);
  // Reserved and not type 3: the FACS among the tables may never be reclaimed.
  add(k1Mib, ram_start, MemoryType::kReserved);
  add(ram_start, layout.low_ram_end, MemoryType::kRam);
  add(kEcamBase, kEcamBase + kEcamReserved, MemoryType::kReserved);
  add(kIoApicBase, kIoApicBase + kPageSize, MemoryType::kReserved);
  add(kLocalApicBase, kLocalApicBase + kPageSize, MemoryType::kReserved);
  add(kIdentityMapBase, k4Gib - kFirmwareMax, MemoryType::kReserved);
  add(k4Gib, layout.high_ram_end, MemoryType::kRam);
  return map;
}

}  // namespace crosvm::x86_64

#include "loader/initrd.h"

#include <algorithm>

#include "base/checked_math.h"
#include "sys/file.h"

namespace crosvm::loader {
namespace {

constexpr uint64_t kPageSize = 4096;

// First address behind the region that holds `address`; 0 when none does.
uint64_t EndOfRam(const memory::GuestMemory& memory, memory::GuestAddr address) {
  for (const memory::RegionInfo& region : memory.regions()) {
    if (address >= region.start && address.value() - region.start.value() < region.size) {
      return region.start.value() + region.size;
    }
  }
  return 0;
}

}  // namespace

Result<memory::GuestAddr> PlaceInitrd(const memory::GuestMemory& memory, uint64_t size,
                                      memory::GuestAddr lowest, uint64_t last) {
  const uint64_t ram_end = EndOfRam(memory, lowest);
  const uint64_t end = last == UINT64_MAX ? ram_end : std::min(ram_end, last + 1);
  if (size > end || AlignDown(end - size, kPageSize) < lowest.value()) {
    return Fail(
        ErrorKind::kInvalidArgument,
        "the initrd of {} bytes does not fit between the kernel's end at {:#x} and {:#x}; give "
        "the VM more memory or use a smaller initrd",
        size, lowest.value(), end);
  }
  return memory::GuestAddr(AlignDown(end - size, kPageSize));
}

Result<GuestRange> LoadInitrd(sys::BorrowedFd file, const memory::GuestMemory& memory,
                              memory::GuestAddr lowest, uint64_t addr_max) {
  const uint64_t size = TRY(sys::FileSize(file));
  if (size == 0) return Fail(ErrorKind::kInvalidArgument, "the initrd is empty");
  const memory::GuestAddr start =
      TRY(PlaceInitrd(memory, size, lowest, addr_max == 0 ? kDefaultInitrdMax : addr_max));
  TRY(LoadRange(file, 0, size, memory, start, "the initrd"));
  return GuestRange{.start = start, .size = size};
}

}  // namespace crosvm::loader

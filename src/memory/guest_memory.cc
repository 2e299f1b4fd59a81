#include "memory/guest_memory.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <algorithm>

#include "memory/guest_copy.h"
#include "sys/mapped_region.h"

namespace crosvm::memory {
namespace {

constexpr uint64_t kPageSize = 4096;
constexpr uint64_t kHugePageSize = 2 << 20;
// More than any peer needs (KVM has 32764 slots, QEMU's vhost-user 509); keeps a hostile table
// small.
constexpr size_t kMaxRegions = 512;

struct Extent {
  uint64_t start = 0;
  uint64_t size = 0;
};

Status CheckExtent(Extent extent, uint64_t alignment) {
  if (extent.size == 0) {
    return Fail(ErrorKind::kInvalidArgument, "memory region at {:#x} is empty", extent.start);
  }
  if (!IsAligned(extent.start, kPageSize) || !IsAligned(extent.size, alignment)) {
    return Fail(ErrorKind::kInvalidArgument,
                "memory region at {:#x} of {:#x} bytes is not aligned to {:#x}", extent.start,
                extent.size, alignment);
  }
  if (!CheckedAdd(extent.start, extent.size)) {
    return Fail(ErrorKind::kInvalidArgument, "memory region at {:#x} of {:#x} bytes wraps around",
                extent.start, extent.size);
  }
  return {};
}

// `regions` is sorted by start and each extent was checked.
template <typename Regions>
Status CheckDisjoint(const Regions& regions) {
  uint64_t total = 0;
  uint64_t end = 0;
  for (const auto& region : regions) {
    if (region.start.value() < end) {
      return Fail(ErrorKind::kInvalidArgument, "memory region at {:#x} overlaps the one before it",
                  region.start.value());
    }
    end = region.start.value() + region.size;
    // Disjoint ranges of a 64-bit space: the sum fits.
    total += region.size;
  }
  if (total > (uint64_t{1} << 52)) {
    return Fail(ErrorKind::kInvalidArgument,
                "memory of {:#x} bytes is larger than a guest can address", total);
  }
  return {};
}

// A peer's descriptor that is going to be mapped: returns the block size that offsets of mappings
// must be multiples of.
Result<uint64_t> CheckFile(const RegionFile& region, bool require_seals) {
  const std::optional<uint64_t> end = CheckedAdd(region.fd_offset, region.size);
  if (!end || !IsAligned(region.fd_offset, kPageSize)) {
    return Fail(ErrorKind::kInvalidArgument, "memory region at {:#x} has a bad file offset {:#x}",
                region.start.value(), region.fd_offset);
  }
  if (!region.fd.valid()) {
    return Fail(ErrorKind::kInvalidArgument, "memory region at {:#x} has no descriptor",
                region.start.value());
  }
  struct stat info{};
  if (fstat(region.fd.get(), &info) != 0) {
    return FailErrno("checking the descriptor of the memory region at {:#x}", region.start.value());
  }
  if (!S_ISREG(info.st_mode) || info.st_size < 0 || static_cast<uint64_t>(info.st_size) < *end) {
    return Fail(ErrorKind::kInvalidArgument,
                "the descriptor of the memory region at {:#x} is not a file of {:#x} bytes or more",
                region.start.value(), *end);
  }
  if (require_seals && !sys::IsShrinkSealed(region.fd, *end)) {
    return Fail(ErrorKind::kInvalidArgument,
                "the memory region at {:#x} is not a memfd sealed against shrinking",
                region.start.value());
  }
  struct statfs filesystem{};
  if (fstatfs(region.fd.get(), &filesystem) != 0) {
    return FailErrno("checking the file system of the memory region at {:#x}",
                     region.start.value());
  }
  if (filesystem.f_type != HUGETLBFS_MAGIC) return kPageSize;
  return static_cast<uint64_t>(filesystem.f_bsize);
}

}  // namespace

struct GuestMemory::Table {
  std::vector<RegionInfo> infos;  // sorted, disjoint
  std::vector<sys::UniqueFd> fds;
  std::vector<sys::MappedRegion> mappings;
  uint64_t total = 0;

  // `offset_in_mapping` is where the region starts in it.
  void Add(RegionInfo info, sys::UniqueFd fd, sys::MappedRegion mapping,
           uint64_t offset_in_mapping) {
    // SAFETY: an address as a number, for the kernel's interfaces and for the bounds-checked
    // Translate.
    info.host_address = reinterpret_cast<uint64_t>(mapping.data()) + offset_in_mapping;
    info.fd = fd;
    total += info.size;
    infos.push_back(info);
    fds.push_back(std::move(fd));
    mappings.push_back(std::move(mapping));
  }
};

Result<GuestMemory> GuestMemory::Create(std::span<const RegionLayout> layout, HugePages pages) {
  const bool reserved = pages == HugePages::kReserved;
  for (const RegionLayout& region : layout) {
    TRY(CheckExtent({region.start.value(), region.size}, reserved ? kHugePageSize : kPageSize));
  }
  TRY(CheckDisjoint(layout));
  auto table = std::make_shared<Table>();
  for (const RegionLayout& region : layout) {
    sys::UniqueFd fd = TRY_CONTEXT(
        sys::CreateSealedMemfd("crosvm_guest", region.size,
                               reserved ? sys::MemfdPages::kHuge : sys::MemfdPages::kNormal),
        "making {} MiB of guest memory", region.size >> 20);
    sys::MappedRegion mapping =
        TRY_CONTEXT(sys::MappedRegion::Shared(fd, 0, region.size, sys::MapAccess::kReadWrite),
                    "mapping {} MiB of guest memory", region.size >> 20);
    TRY(mapping.Advise(MADV_DONTDUMP));
    if (pages == HugePages::kTransparent) {
      TRY_CONTEXT(mapping.Advise(MADV_HUGEPAGE), "asking for transparent huge pages");
    }
    table->Add({.start = region.start, .size = region.size}, std::move(fd), std::move(mapping), 0);
  }
  return GuestMemory(std::move(table));
}

Result<GuestMemory> GuestMemory::Map(std::vector<RegionFile> regions, bool require_seals) {
  if (regions.size() > kMaxRegions) {
    return Fail(ErrorKind::kInvalidArgument, "{} memory regions are too many", regions.size());
  }
  for (const RegionFile& region : regions)
    TRY(CheckExtent({region.start.value(), region.size}, kPageSize));
  std::sort(regions.begin(), regions.end(),
            [](const RegionFile& a, const RegionFile& b) { return a.start < b.start; });
  TRY(CheckDisjoint(regions));
  auto table = std::make_shared<Table>();
  for (RegionFile& region : regions) {
    // TRUST: after CheckFile the range lies in the file; with seals it stays so.
    const uint64_t block = TRY(CheckFile(region, require_seals));
    // hugetlbfs maps whole huge pages only, while a peer's region may begin inside one.
    const uint64_t map_offset = AlignDown(region.fd_offset, block);
    const uint64_t lead = region.fd_offset - map_offset;
    const std::optional<uint64_t> map_size = AlignUp(lead + region.size, block);
    if (!map_size) {
      return Fail(ErrorKind::kInvalidArgument, "memory region at {:#x} is too large",
                  region.start.value());
    }
    sys::MappedRegion mapping = TRY_CONTEXT(
        sys::MappedRegion::Shared(region.fd, map_offset, *map_size, sys::MapAccess::kReadWrite),
        "mapping the memory region at {:#x}", region.start.value());
    TRY(mapping.Advise(MADV_DONTDUMP));
    table->Add({.start = region.start, .size = region.size, .fd_offset = region.fd_offset},
               std::move(region.fd), std::move(mapping), lead);
  }
  return GuestMemory(std::move(table));
}

std::span<const RegionInfo> GuestMemory::regions() const {
  if (!table_) return {};
  return table_->infos;
}

uint64_t GuestMemory::total_size() const {
  return table_ ? table_->total : 0;
}

const RegionInfo* GuestMemory::Find(GuestAddr address, uint64_t length) const {
  if (!table_) return nullptr;
  const std::vector<RegionInfo>& infos = table_->infos;
  auto next = std::upper_bound(infos.begin(), infos.end(), address,
                               [](GuestAddr a, const RegionInfo& info) { return a < info.start; });
  if (next == infos.begin()) return nullptr;
  const RegionInfo& info = *std::prev(next);
  const uint64_t offset = address.value() - info.start.value();
  // The address itself must lie inside, even for a length of 0.
  if (offset >= info.size || length > info.size - offset) return nullptr;
  return &info;
}

uint8_t* GuestMemory::Translate(GuestAddr address, uint64_t length) const {
  const RegionInfo* const info = Find(address, length);
  if (info == nullptr) return nullptr;
  // SAFETY: Find has checked the range against the region, which is mapped at host_address for as
  // long as the table lives.
  return reinterpret_cast<uint8_t*>(info->host_address + (address.value() - info->start.value()));
}

std::optional<GuestSlice> GuestMemory::Slice(GuestAddr address, uint64_t length) const {
  uint8_t* const data = Translate(address, length);
  if (data == nullptr) return std::nullopt;
  return GuestSlice(data, length);
}

std::optional<GuestSlice> GuestMemory::SliceUpTo(GuestAddr address, uint64_t length) const {
  const RegionInfo* const info = Find(address, 0);
  if (info == nullptr) return std::nullopt;
  const uint64_t left = info->size - (address.value() - info->start.value());
  return Slice(address, std::min(length, left));
}

bool GuestMemory::ReadBytes(GuestAddr address, std::span<uint8_t> out) const {
  const uint8_t* const data = Translate(address, out.size());
  if (data == nullptr) return false;
  CopyFromGuest(out.data(), data, out.size());
  return true;
}

bool GuestMemory::WriteBytes(GuestAddr address, std::span<const uint8_t> in) const {
  uint8_t* const data = Translate(address, in.size());
  if (data == nullptr) return false;
  CopyToGuest(data, in.data(), in.size());
  return true;
}

Status GuestMemory::Discard(GuestAddr address, uint64_t length) const {
  if (length == 0) return {};
  if (!IsAligned(address.value(), kPageSize) || !IsAligned(length, kPageSize)) {
    return Fail(ErrorKind::kInvalidArgument, "discarding {:#x} bytes at {:#x}: not whole pages",
                length, address.value());
  }
  const RegionInfo* const info = Find(address, length);
  if (info == nullptr) {
    return Fail(ErrorKind::kInvalidArgument, "discarding {:#x} bytes at {:#x}: not in one region",
                length, address.value());
  }
  const uint64_t offset = info->fd_offset + (address.value() - info->start.value());
  if (sys::RetryEintr([&] {
        return fallocate(info->fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         static_cast<off_t>(offset), static_cast<off_t>(length));
      }) != 0) {
    return FailErrno("giving {:#x} bytes of guest memory at {:#x} back", length, address.value());
  }
  return {};
}

}  // namespace crosvm::memory

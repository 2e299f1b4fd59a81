#include "virtio/shared_memory.h"

#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <limits>

#include "base/checked_math.h"
#include "base/log.h"
#include "sys/file.h"

namespace crosvm::virtio {
namespace {

constexpr uint64_t kPageSize = 4096;
// What a driver maps at a time is larger (Linux: 2 MiB). A process has 65530 mappings in all, and
// the VMM needs some itself: so many bytes must there be for each that a device may have.
constexpr uint64_t kBytesPerMapping = 1U << 20;
constexpr uint64_t kMinMappings = 64;
constexpr uint64_t kMaxMappings = 8192;

// TRUST: the mapping of a device node can be anything, also for who only maps it. Huge pages cannot
// be moved by older kernels, which find that out when what was there is gone (Linux before 5.16).
Status CheckFile(sys::BorrowedFd file) {
  const struct stat info = TRY(sys::Stat(file));
  struct statfs filesystem{};
  if (!S_ISREG(info.st_mode) || fstatfs(file.get(), &filesystem) != 0 ||
      filesystem.f_type == HUGETLBFS_MAGIC) {
    return Fail(ErrorKind::kInvalidArgument, "only regular files of small pages are mapped");
  }
  return {};
}

uint64_t MappingLimit(uint64_t size) {
  return std::clamp(size / kBytesPerMapping, kMinMappings, kMaxMappings);
}

}  // namespace

SharedMemory::SharedMemory(hypervisor::Vm& vm, std::string name,
                           std::vector<SharedMemoryRegion> regions, sys::MappedRegion reservation)
    : vm_(vm),
      name_(std::move(name)),
      regions_(std::move(regions)),
      reservation_(std::move(reservation)) {
}

SharedMemory::~SharedMemory() {
  Place(std::nullopt);
}

Result<std::shared_ptr<SharedMemory>> SharedMemory::Create(
    hypervisor::Vm& vm, std::string name, std::vector<SharedMemoryRegion> regions) {
  uint64_t size = 0;
  for (const SharedMemoryRegion& region : regions) {
    const std::optional<uint64_t> end = CheckedAdd(size, region.size);
    if (region.size == 0 || !IsAligned(region.size, kPageSize) || !end) {
      return Fail(ErrorKind::kInvalidArgument, "shared memory region {} of {} has {:#x} bytes",
                  region.id, name, region.size);
    }
    size = *end;
  }
  // For reading: zeroes that cost no memory. What could be written would, at the guest's will.
  sys::MappedRegion reservation =
      TRY_CONTEXT(sys::MappedRegion::Anonymous(size, sys::MapAccess::kRead),
                  "reserving the shared memory of {}", name);
  TRY(reservation.Advise(MADV_DONTDUMP));
  return std::shared_ptr<SharedMemory>(
      new SharedMemory(vm, std::move(name), std::move(regions), std::move(reservation)));
}

void SharedMemory::Place(std::optional<uint64_t> base) {
  MutexLock lock(mutex_);
  if (slot_) {
    const Status removed = vm_.RemoveMemory(*std::exchange(slot_, std::nullopt));
    if (!removed.has_value()) LOG_WARN("{}: {}", name_, removed.error().ToString());
  }
  if (!base) return;
  const Result<hypervisor::MemorySlot> slot =
      vm_.AddMemory({.guest = memory::GuestAddr(*base),
                     .size = reservation_.size(),
                     // SAFETY: an address of this process for KVM, which accesses it as the guest.
                     .host_address = reinterpret_cast<uint64_t>(reservation_.data())});
  if (slot.has_value()) {
    slot_ = *slot;
    return;
  }
  // Where a guest puts the BAR over its memory, say. It then finds no memory there.
  LOG_WARN_EVERY(std::chrono::seconds(1), "{}: shared memory at {:#x}: {}", name_, *base,
                 slot.error().ToString());
}

Result<uint64_t> SharedMemory::Check(const SharedMemoryRange& range) const {
  uint64_t start = 0;
  for (const SharedMemoryRegion& region : regions_) {
    if (region.id != range.region) {
      start += region.size;
      continue;
    }
    if (range.length == 0 || !IsAligned(range.offset | range.length, kPageSize) ||
        !RangeFits(range.offset, range.length, region.size)) {
      return Fail(ErrorKind::kInvalidArgument,
                  "{:#x} bytes at {:#x} are not pages of shared memory of {:#x} bytes",
                  range.length, range.offset, region.size);
    }
    return start + range.offset;
  }
  return Fail(ErrorKind::kInvalidArgument, "no shared memory region {}", range.region);
}

bool SharedMemory::Cuts(uint64_t at) const {
  const auto after = mappings_.lower_bound(at);
  return after != mappings_.begin() && std::prev(after)->first + std::prev(after)->second > at;
}

Status SharedMemory::Map(const SharedMemoryRange& range, sys::BorrowedFd file, uint64_t file_offset,
                         bool writable) {
  const uint64_t begin = TRY(Check(range));
  constexpr auto kMaxFile = static_cast<uint64_t>(std::numeric_limits<off_t>::max());
  if (!IsAligned(file_offset, kPageSize) || !RangeFits(file_offset, range.length, kMaxFile)) {
    return Fail(ErrorKind::kInvalidArgument, "{:#x} is no place in a file to map {:#x} bytes from",
                file_offset, range.length);
  }
  TRY(CheckFile(file));
  MutexLock lock(mutex_);
  const auto first = mappings_.lower_bound(begin);
  const bool free = first == mappings_.end() || first->first >= begin + range.length;
  const bool replaces = !free && first->first == begin && first->second == range.length;
  if (Cuts(begin) || (!free && !replaces)) {
    return Fail(ErrorKind::kAlreadyExists, "a part of it is mapped already");
  }
  if (!replaces && mappings_.size() >= MappingLimit(reservation_.size())) {
    return Fail(ErrorKind::kBusy, "there are {} mappings", mappings_.size());
  }
  sys::MappedRegion part =
      TRY(sys::MappedRegion::Shared(file, file_offset, range.length,
                                    writable ? sys::MapAccess::kReadWrite : sys::MapAccess::kRead));
  TRY(part.Advise(MADV_DONTDUMP));
  TRY(reservation_.Overlay(begin, std::move(part)));
  mappings_[begin] = range.length;
  return {};
}

Status SharedMemory::Release(uint64_t begin, uint64_t end) {
  auto mapping = mappings_.lower_bound(begin);
  while (mapping != mappings_.end() && mapping->first < end) {
    TRY(reservation_.OverlayAnonymous(mapping->first, mapping->second, sys::MapAccess::kRead));
    mapping = mappings_.erase(mapping);
  }
  return {};
}

Status SharedMemory::Unmap(const SharedMemoryRange& range) {
  const uint64_t begin = TRY(Check(range));
  const uint64_t end = begin + range.length;
  MutexLock lock(mutex_);
  if (Cuts(begin) || Cuts(end)) {
    return Fail(ErrorKind::kInvalidArgument, "a part of a mapping cannot be unmapped");
  }
  return Release(begin, end);
}

void SharedMemory::Clear() {
  MutexLock lock(mutex_);
  const Status released = Release(0, reservation_.size());
  if (!released.has_value()) LOG_WARN("{}: {}", name_, released.error().ToString());
}

size_t SharedMemory::mapping_count() const {
  MutexLock lock(mutex_);
  return mappings_.size();
}

}  // namespace crosvm::virtio

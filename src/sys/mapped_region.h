// Owner of an mmap(2) range.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sys/fd.h"

namespace crosvm::sys {

enum class MapAccess : uint8_t { kNone, kRead, kReadWrite };

class MappedRegion {
 public:
  MappedRegion() = default;
  MappedRegion(MappedRegion&& other) noexcept;
  MappedRegion& operator=(MappedRegion&& other) noexcept;
  MappedRegion(const MappedRegion&) = delete;
  MappedRegion& operator=(const MappedRegion&) = delete;
  ~MappedRegion();

  // MAP_SHARED of [offset, offset + size) of `fd`. `offset` is page-aligned; `size` > 0.
  static Result<MappedRegion> Shared(BorrowedFd fd, uint64_t offset, size_t size, MapAccess access);
  // Zero-filled private memory.
  static Result<MappedRegion> Anonymous(size_t size, MapAccess access = MapAccess::kReadWrite);

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  bool valid() const { return data_ != nullptr; }

  // Moves `part` over [offset, offset + part.size()), page-aligned and inside this region. Who
  // accesses the range meanwhile meets what was there or what comes, and never nothing: no other
  // mapping of the process can get in between. After a failure this region is what it was.
  Status Overlay(size_t offset, MappedRegion part);
  // As Overlay(), with zero-filled private memory that costs nothing until it is written.
  Status OverlayAnonymous(size_t offset, size_t size, MapAccess access);

  // madvise(2) over the whole range.
  Status Advise(int advice);

 private:
  MappedRegion(uint8_t* data, size_t size) : data_(data), size_(size) {}
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace crosvm::sys

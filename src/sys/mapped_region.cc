#include "sys/mapped_region.h"

#include <sys/mman.h>

#include <limits>

#include "base/check.h"
#include "base/checked_math.h"

namespace crosvm::sys {
namespace {

int Protection(MapAccess access) {
  switch (access) {
    case MapAccess::kNone:
      return PROT_NONE;
    case MapAccess::kRead:
      return PROT_READ;
    case MapAccess::kReadWrite:
      break;
  }
  return PROT_READ | PROT_WRITE;
}

// Null with errno set when it failed.
uint8_t* Map(size_t size, MapAccess access, int flags, int fd, off_t offset) {
  void* const data = mmap(nullptr, size, Protection(access), flags, fd, offset);
  return data == MAP_FAILED ? nullptr : static_cast<uint8_t*>(data);
}

}  // namespace

MappedRegion::MappedRegion(MappedRegion&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {
}

MappedRegion& MappedRegion::operator=(MappedRegion&& other) noexcept {
  if (this != &other) {
    MappedRegion old(std::move(*this));
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

MappedRegion::~MappedRegion() {
  if (data_ != nullptr) CHECK(munmap(data_, size_) == 0);
}

Result<MappedRegion> MappedRegion::Shared(BorrowedFd fd, uint64_t offset, size_t size,
                                          MapAccess access) {
  if (size == 0 || offset > static_cast<uint64_t>(std::numeric_limits<off_t>::max())) {
    return Fail(ErrorKind::kInvalidArgument, "cannot map {} bytes at offset {}", size, offset);
  }
  uint8_t* const data = Map(size, access, MAP_SHARED, fd.get(), static_cast<off_t>(offset));
  if (data == nullptr) return FailErrno("mapping {} bytes at offset {}", size, offset);
  return MappedRegion(data, size);
}

Result<MappedRegion> MappedRegion::Anonymous(size_t size, MapAccess access) {
  if (size == 0) return Fail(ErrorKind::kInvalidArgument, "cannot map 0 bytes");
  uint8_t* const data = Map(size, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == nullptr) return FailErrno("mapping {} bytes", size);
  return MappedRegion(data, size);
}

Status MappedRegion::Overlay(size_t offset, MappedRegion part) {
  if (!part.valid() || !RangeFits(offset, part.size_, size_)) {
    return Fail(ErrorKind::kInvalidArgument, "{} bytes do not fit at {:#x} of a mapping of {}",
                part.size_, offset, size_);
  }
  // Not mmap() with MAP_FIXED: a file that refuses to be mapped does so when what was there is gone
  // already. What is moved is mapped, and can only fail before.
  void* const moved =
      mremap(part.data_, part.size_, part.size_, MREMAP_MAYMOVE | MREMAP_FIXED, data_ + offset);
  if (moved == MAP_FAILED) {
    const int error = errno;
    // Should the kernel have taken away what was there all the same, nobody else is to come there.
    (void)mmap(data_ + offset, part.size_, PROT_NONE,
               MAP_FIXED_NOREPLACE | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return std::unexpected(
        Error::FromErrno(error, fmt::format("moving a mapping of {} bytes", part.size_)));
  }
  part.data_ = nullptr;
  return {};
}

Status MappedRegion::OverlayAnonymous(size_t offset, size_t size, MapAccess access) {
  if (size == 0 || !RangeFits(offset, size, size_)) {
    return Fail(ErrorKind::kInvalidArgument, "{} bytes do not fit at {:#x} of a mapping of {}",
                size, offset, size_);
  }
  constexpr int kFlags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* const data = mmap(data_ + offset, size, Protection(access), kFlags, -1, 0);
  if (data == MAP_FAILED) return FailErrno("mapping {} bytes", size);
  return {};
}

Status MappedRegion::Advise(int advice) {
  if (madvise(data_, size_, advice) == -1) return FailErrno("madvise {}", advice);
  return {};
}

}  // namespace crosvm::sys

#include "sys/memfd.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <limits>

#ifndef MFD_NOEXEC_SEAL  // newer than Debian 12's headers
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace crosvm::sys {
namespace {

// Not executable and never to become so, where the kernel knows that (6.3).
UniqueFd MakeMemfd(const std::string& name, unsigned flags) {
  UniqueFd fd(memfd_create(name.c_str(), flags | MFD_NOEXEC_SEAL));
  if (!fd.valid() && errno == EINVAL) fd = UniqueFd(memfd_create(name.c_str(), flags));
  return fd;
}

}  // namespace

Result<UniqueFd> CreateSealedMemfd(const std::string& name, uint64_t size, MemfdPages pages) {
  if (size > static_cast<uint64_t>(std::numeric_limits<off_t>::max())) {
    return Fail(ErrorKind::kInvalidArgument, "a memory file of {} bytes is too large", size);
  }
  const unsigned huge = pages == MemfdPages::kHuge ? MFD_HUGETLB : 0U;
  UniqueFd fd = MakeMemfd(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | huge);
  if (!fd.valid()) return FailErrno("creating memory file {}", name);
  if (ftruncate(fd.get(), static_cast<off_t>(size)) == -1) {
    return FailErrno("giving memory file {} its {} bytes", name, size);
  }
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1) {
    return FailErrno("sealing memory file {}", name);
  }
  return fd;
}

bool IsShrinkSealed(BorrowedFd fd, uint64_t size) {
  const int seals = fcntl(fd.get(), F_GET_SEALS);
  if (seals == -1 || (seals & F_SEAL_SHRINK) == 0) return false;
  // The size is read after the seal was seen: from then on it can only grow.
  struct stat info{};
  return fstat(fd.get(), &info) == 0 && static_cast<uint64_t>(info.st_size) >= size;
}

}  // namespace crosvm::sys

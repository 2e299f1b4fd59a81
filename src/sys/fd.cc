#include "sys/fd.h"

#include <fcntl.h>

#include "base/check.h"

namespace crosvm::sys {
namespace {

Result<UniqueFd> DupCloexec(int fd) {
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy == -1) return FailErrno("duplicating a descriptor");
  return UniqueFd(copy);
}

}  // namespace

void UniqueFd::Reset(int fd) {
  if (fd_ >= 0) {
    // Destructors run between a failed call and the report of its errno.
    const int saved_errno = errno;
    // Linux has released the number whatever close() returns; only EBADF tells of a bug of ours.
    CHECK(close(fd_) == 0 || errno != EBADF, "descriptor {} was closed by somebody else", fd_);
    errno = saved_errno;
  }
  fd_ = fd;
}

Result<UniqueFd> UniqueFd::Dup() const {
  return DupCloexec(fd_);
}

Result<UniqueFd> BorrowedFd::Dup() const {
  return DupCloexec(fd_);
}

}  // namespace crosvm::sys

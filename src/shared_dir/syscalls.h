// Private to shared_dir: the system calls that everything rests on, by one component and never
// following a link.
#pragma once

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstring>
#include <string_view>

#include "base/check.h"
#include "shared_dir/errno.h"
#include "shared_dir/node_table.h"
#include "sys/fd.h"

namespace crosvm::shared_dir {

// A checked name, ended by NUL, on the stack.
class CName {
 public:
  explicit CName(std::string_view name) {
    CHECK(name.size() <= kMaxName);
    memcpy(text_.data(), name.data(), name.size());
    text_[name.size()] = '\0';
  }
  const char* text() const { return text_.data(); }

 private:
  std::array<char, kMaxName + 1> text_;
};

// A descriptor's name in /proc/self/fd.
class SelfName {
 public:
  explicit SelfName(sys::BorrowedFd fd) {
    *std::to_chars(text_.data(), text_.data() + text_.size() - 1, fd.get()).ptr = '\0';
  }
  const char* text() const { return text_.data(); }

 private:
  std::array<char, 12> text_{};
};

// An empty name: the file of the descriptor itself.
inline OrErrno<struct statx> StatAt(sys::BorrowedFd directory, const char* name) {
  struct statx result{};
  if (syscall(SYS_statx, directory.get(), name,
              AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name == '\0' ? AT_EMPTY_PATH : 0),
              STATX_BASIC_STATS | STATX_BTIME, &result) != 0) {
    return RefuseLast();
  }
  return result;
}

inline OrErrno<sys::UniqueFd> OpenBeneath(sys::BorrowedFd directory, const char* name, int flags,
                                          mode_t mode = 0) {
  open_how how{};
  how.flags = static_cast<uint64_t>(static_cast<unsigned>(flags | O_NOFOLLOW | O_CLOEXEC));
  how.mode = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? mode : 0;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
  sys::UniqueFd fd(
      static_cast<int>(syscall(SYS_openat2, directory.get(), name, &how, sizeof(how))));
  if (!fd.valid()) return RefuseLast();
  return fd;
}

}  // namespace crosvm::shared_dir

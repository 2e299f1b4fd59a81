// /proc/self/fd for a process whose root will not have /proc: what a device that knows files by
// O_PATH descriptors opens them again through.
#pragma once

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/file.h"

namespace crosvm::jail {

// Cut out of the host's /proc where rights allow (CAP_SYS_ADMIN over the mount namespace), so that
// nothing else of /proc can be reached through it. Called by the process itself, before it gives up
// its rights and its root.
inline Result<sys::UniqueFd> OpenSelfFds() {
  constexpr const char* kPath = "/proc/self/fd";
  // A mount of its own that is attached nowhere: ".." leads nowhere.
  sys::UniqueFd cut(static_cast<int>(
      syscall(SYS_open_tree, AT_FDCWD, kPath, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
  if (cut.valid()) return cut;
  Result<sys::UniqueFd> plain = sys::Open(kPath, O_PATH | O_DIRECTORY);
  if (plain.has_value()) return plain;
  return std::unexpected(std::move(plain).error().Context(
      "a shared directory needs /proc mounted (`mount -t proc proc /proc`)"));
}

}  // namespace crosvm::jail

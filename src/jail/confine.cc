#include "jail/confine.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "jail/landlock.h"

namespace crosvm::jail {
namespace {

// Puts `fd` (a detached or attached mount's root directory) in place of the root, and the old root
// out of reach.
Status PivotInto(int fd) {
  if (fchdir(fd) != 0) return FailErrno("entering the new root");
  // With both arguments "." the old root ends up stacked on the new one and is detached from there:
  // no put_old directory is needed (pivot_root(2)).
  if (syscall(SYS_pivot_root, ".", ".") != 0) return FailErrno("pivot_root");
  if (umount2(".", MNT_DETACH) != 0) return FailErrno("detaching the host's file systems");
  if (chdir("/") != 0) return FailErrno("entering the new root");
  return {};
}

bool SameInode(int a, int b) {
  struct stat first{};
  struct stat second{};
  return fstat(a, &first) == 0 && fstat(b, &second) == 0 && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
}

Status EnterDirectory(const std::string& path, sys::BorrowedFd directory, bool writable) {
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return FailErrno("making mounts private");
  }
  const sys::UniqueFd tree(static_cast<int>(syscall(
      SYS_open_tree, AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE)));
  if (!tree.valid()) return FailErrno("cloning the mount of {}", path);
  if (!SameInode(tree.get(), directory.get())) {
    return Fail(ErrorKind::kIo, "{} was replaced while the device started", path);
  }
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  if (!writable) attributes.attr_set |= MOUNT_ATTR_RDONLY;
  if (syscall(SYS_mount_setattr, tree.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes,
              sizeof(attributes)) != 0) {
    return FailErrno("restricting the shared directory's mount");
  }
  if (syscall(SYS_move_mount, tree.get(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return FailErrno("mounting the shared directory");
  }
  return PivotInto(tree.get());
}

// The kernel counts io_uring's rings as locked, together for all processes of the same user.
// Locking memory itself is in no policy.
constexpr rlim_t kMaxLocked = rlim_t{64} << 20;

Status SetLimits(const ConfineOptions& options) {
  const struct {
    __rlimit_resource resource;
    rlim_t limit;
  } limits[] = {
      {RLIMIT_NOFILE, options.max_open_files},
      {RLIMIT_CORE, 0},
      {RLIMIT_MEMLOCK, kMaxLocked},
  };
  for (const auto& [resource, limit] : limits) {
    rlimit current{};
    if (getrlimit(resource, &current) != 0) return FailErrno("reading a resource limit");
    const rlim_t lower = std::min(limit, current.rlim_max);
    const rlimit both = {lower, lower};
    if (setrlimit(resource, &both) != 0) return FailErrno("lowering a resource limit");
  }
  return {};
}

}  // namespace

Status EnterEmptyRoot() {
  // Nothing of the host's tree is needed as a mount point but its root directory itself.
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return FailErrno("making mounts private");
  }
  const sys::UniqueFd context(static_cast<int>(syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC)));
  if (!context.valid()) return FailErrno("fsopen of tmpfs");
  const auto set = [&](const char* key, const char* value) {
    return syscall(SYS_fsconfig, context.get(), FSCONFIG_SET_STRING, key, value, 0);
  };
  if (set("size", "4096") != 0 || set("nr_inodes", "2") != 0 || set("mode", "0555") != 0 ||
      syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return FailErrno("setting up a tmpfs");
  }
  const sys::UniqueFd mounted(static_cast<int>(
      syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC,
              MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)));
  if (!mounted.valid()) return FailErrno("fsmount of tmpfs");
  if (syscall(SYS_move_mount, mounted.get(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return FailErrno("mounting the empty root");
  }
  return PivotInto(mounted.get());
}

Status DropCapabilities(const std::vector<int>& keep) {
  const auto kept = [&](int capability) {
    return std::find(keep.begin(), keep.end(), capability) != keep.end();
  };
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    // Without CAP_SETPCAP (an ordinary user without a user namespace) there is nothing in the sets
    // to begin with.
    if (!kept(capability) && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 && errno != EPERM) {
      return FailErrno("emptying the capability bounding set");
    }
  }
  constexpr unsigned long kLocked = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
                                    SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
                                    SECBIT_NO_CAP_AMBIENT_RAISE |
                                    SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
  if (prctl(PR_SET_SECUREBITS, kLocked, 0, 0, 0) != 0 && errno != EPERM) {
    return FailErrno("locking the secure bits");
  }
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && errno != EINVAL) {
    return FailErrno("clearing ambient capabilities");
  }
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  for (const int capability : keep) {
    const uint32_t bit = uint32_t{1} << (capability % 32);
    data[capability / 32].effective |= bit;
    data[capability / 32].permitted |= bit;
  }
  if (syscall(SYS_capset, &header, data) != 0) return FailErrno("dropping capabilities");
  return {};
}

Result<Layers> Confine(const ConfineOptions& options) {
  Layers in_force = options.namespaces;
  const auto apply = [&](Layer layer, Status status) -> Status {
    if (status.has_value()) {
      in_force.Add(layer);
      return {};
    }
    if (!options.best_effort) return status;
    LOG_WARN("jail layer '{}' is off: {}", kLayerNames[static_cast<size_t>(layer)],
             status.error().ToString());
    return {};
  };

  // The VMM's end must not leave orphans; in a pid namespace the parent cannot be asked for, so the
  // sockets tell as well.
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  if (options.root_is_empty) in_force.Add(Layer::kPivotRoot);
  if (options.namespaces.Has(Layer::kMountNamespace) && !options.root_is_empty) {
    TRY(apply(Layer::kPivotRoot,
              options.root_path.empty()
                  ? EnterEmptyRoot()
                  : EnterDirectory(options.root_path, options.root, options.root_writable)));
  }
  TRY(apply(Layer::kRlimits, SetLimits(options)));
  TRY(apply(Layer::kCapabilities, DropCapabilities(options.keep_capabilities)));
  if (options.namespaces.Has(Layer::kUserNamespace)) in_force.Add(Layer::kUnprivilegedId);
  Status no_new_privs;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) no_new_privs = FailErrno("no_new_privs");
  TRY(apply(Layer::kNoNewPrivs, std::move(no_new_privs)));
  // Never demanded: older kernels have none, and what it denies is out of sight already. A shared
  // directory is left out of it, as files that are opened by handle have no path to judge by.
  const Status landlock =
      RestrictByLandlock({.deny_paths = options.root_path.empty(),
                          .deny_network = options.namespaces.Has(Layer::kNetNamespace)});
  if (landlock.has_value()) {
    in_force.Add(Layer::kLandlock);
  } else {
    LOG_DEBUG("no Landlock: {}", landlock.error().ToString());
  }
  return in_force;
}

}  // namespace crosvm::jail

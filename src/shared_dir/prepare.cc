#include "shared_dir/prepare.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <thread>

#include "jail/self_fds.h"
#include "shared_dir/identity.h"
#include "sys/file.h"

namespace crosvm::shared_dir {
namespace {

// A guest's kernel needs about a kilobyte for each file that it knows, this process 128 bytes.
constexpr uint32_t kMaxNodes = 1U << 21;
// Sockets, memory, queues, epolls of the process itself.
constexpr uint64_t kOwnDescriptors = 192;
constexpr uint64_t kMostDescriptors = 1U << 17;
constexpr uint32_t kMostOpen = 1U << 16;

Result<std::string> RealPath(const std::string& path) {
  const std::unique_ptr<char, decltype(&free)> real(realpath(path.c_str(), nullptr), &free);
  if (!real) return FailErrno("the shared directory {}", path);
  return std::string(real.get());
}

// In a jail the directory is the root, as a mount of its own that is nosuid, nodev and, where asked
// for, read-only; the descriptor from outside is of the host's mount.
Result<sys::UniqueFd> InsideJail(sys::UniqueFd outside) {
  sys::UniqueFd root = TRY(sys::Open("/", O_PATH | O_DIRECTORY));
  const struct stat there = TRY(sys::Stat(outside));
  const struct stat here = TRY(sys::Stat(root));
  const bool same = there.st_dev == here.st_dev && there.st_ino == here.st_ino;
  return same ? std::move(root) : std::move(outside);
}

}  // namespace

Result<PreparedShare> PrepareShare(const PrepareOptions& options) {
  PreparedShare share;
  share.root_path = TRY(RealPath(options.path));
  share.root = TRY(sys::Open(share.root_path, O_PATH | O_DIRECTORY));
  share.uid_map = options.uidmap.empty() ? TRY(DefaultUserMap())
                                         : TRY_CONTEXT(ParseIdMap(options.uidmap), "uidmap");
  share.gid_map = options.gidmap.empty() ? TRY(DefaultGroupMap())
                                         : TRY_CONTEXT(ParseIdMap(options.gidmap), "gidmap");
  // In the user namespace, over files whose owners are mapped: what a guest's root expects of its
  // own files.
  share.keep_capabilities = {CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID,
                             CAP_SETGID, CAP_SETUID,       CAP_SETFCAP};
  share.max_nodes = kMaxNodes;
  share.state = TRY(Share::MakeState(share.max_nodes));

  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return FailErrno("reading the limit of open files");
  share.max_open_files = std::min<uint64_t>(limit.rlim_max, kMostDescriptors);
  if (share.max_open_files < 2 * kOwnDescriptors) {
    return Fail(ErrorKind::kUnsupported,
                "a shared directory needs {} descriptors, the limit is {}; raise it with "
                "`ulimit -Hn`",
                2 * kOwnDescriptors, share.max_open_files);
  }
  const uint64_t usable = share.max_open_files - kOwnDescriptors;
  share.max_open = static_cast<uint32_t>(std::min<uint64_t>(kMostOpen, usable / 4 * 3));
  if (options.max_open != 0) {
    if (options.max_open > usable) {
      return Fail(ErrorKind::kInvalidArgument,
                  "max-open={} does not fit the limit of {} descriptors; raise it with "
                  "`ulimit -Hn`",
                  options.max_open, share.max_open_files);
    }
    share.max_open = options.max_open;
  }
  // By sixteens, for the tables.
  share.max_open = std::max<uint32_t>(16, share.max_open / 16 * 16);
  share.max_descriptors = static_cast<uint32_t>(
      std::min<uint64_t>(usable - std::min<uint64_t>(usable, share.max_open), 16384));
  // Twice as many are kept while those that have no name any more are among them.
  share.max_descriptors = std::max<uint32_t>(NodeTable::kShards, share.max_descriptors / 2);
  return share;
}

Result<std::unique_ptr<Share>> OpenShare(sys::UniqueFd root, sys::BorrowedFd self_fds,
                                         sys::BorrowedFd state, const ShareOptions& options) {
  sys::UniqueFd inside = TRY(InsideJail(std::move(root)));
  sys::UniqueFd own = self_fds.valid() ? TRY(self_fds.Dup()) : TRY(jail::OpenSelfFds());
  return Share::Create(std::move(inside), std::move(own), state, options);
}

uint32_t DefaultThreads() {
  return std::clamp(std::thread::hardware_concurrency(), 2U, 8U);
}

}  // namespace crosvm::shared_dir

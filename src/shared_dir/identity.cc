#include "shared_dir/identity.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>

#include "sys/file.h"

namespace crosvm::shared_dir {
namespace {

constexpr size_t kMaxLines = 340;  // of a user namespace's map, user_namespaces(7)

// One line of three numbers between blanks.
Result<jail::IdMap> ParseLine(std::string_view line) {
  uint32_t numbers[3] = {};
  std::string_view rest = line;
  for (uint32_t& number : numbers) {
    rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
    if (error != std::errc()) {
      return Fail(ErrorKind::kInvalidArgument,
                  "'{}' is not three numbers INSIDE OUTSIDE COUNT, as in '0 1000 1'", line);
    }
    rest.remove_prefix(static_cast<size_t>(end - rest.data()));
  }
  if (rest.find_first_not_of(" \t") != std::string_view::npos || numbers[2] == 0) {
    return Fail(ErrorKind::kInvalidArgument,
                "'{}' is not three numbers INSIDE OUTSIDE COUNT, as in '0 1000 1'", line);
  }
  return jail::IdMap{.inside = numbers[0], .outside = numbers[1], .count = numbers[2]};
}

bool Overlap(uint32_t a, uint32_t b, uint64_t a_count, uint64_t b_count) {
  return a < b + b_count && b < a + a_count;
}

Status CheckMap(const std::vector<jail::IdMap>& map) {
  bool has_root = false;
  for (size_t i = 0; i < map.size(); ++i) {
    const jail::IdMap& line = map[i];
    if (line.inside + uint64_t{line.count} > UINT32_MAX ||
        line.outside + uint64_t{line.count} > UINT32_MAX) {
      return Fail(ErrorKind::kInvalidArgument, "an id map goes beyond the last id");
    }
    has_root = has_root || line.inside == 0;
    for (size_t k = 0; k < i; ++k) {
      if (Overlap(line.inside, map[k].inside, line.count, map[k].count) ||
          Overlap(line.outside, map[k].outside, line.count, map[k].count)) {
        return Fail(ErrorKind::kInvalidArgument, "two lines of an id map overlap");
      }
    }
  }
  if (has_root) return {};
  return Fail(ErrorKind::kInvalidArgument,
              "an id map has to say who id 0 is; put a line '0 OUTSIDE COUNT' first");
}

Result<std::vector<jail::IdMap>> DefaultMap(const char* file, uint32_t own) {
  if (geteuid() != 0) return std::vector<jail::IdMap>{{.inside = 0, .outside = own, .count = 1}};
  // As many ids as this process' own namespace has, each as itself.
  const std::string text = TRY(sys::ReadFileToString(file));
  std::vector<jail::IdMap> map;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.empty()) continue;
    const jail::IdMap entry = TRY(ParseLine(line));
    map.push_back({.inside = entry.inside, .outside = entry.inside, .count = entry.count});
  }
  return map;
}

// The credentials and the umask of a thread, as the kernel has them.
struct ThreadState {
  bool known = false;
  uid_t user = 0;
  gid_t group = 0;
  mode_t umask = 0;
  bool umask_known = false;
  int keeps_set_id = -1;  // -1: not known
};
thread_local ThreadState thread_state;

// The C library's wrappers would change every thread of the process.
bool SetEffectiveUser(uid_t user) {
  return syscall(SYS_setresuid, -1, user, -1) == 0;
}
bool SetEffectiveGroup(gid_t group) {
  return syscall(SYS_setresgid, -1, group, -1) == 0;
}

// A change of user leaves the thread its capabilities, as in the jail, where that is locked:
// whether a caller may create something has been checked by the guest, which alone knows all his
// groups.
void KeepCapabilitiesOverUsers() {
  const int bits = prctl(PR_GET_SECUREBITS);
  if (bits < 0 || (bits & SECBIT_NO_SETUID_FIXUP) != 0) return;
  prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP);  // as root; others cannot change users
}

}  // namespace

Result<std::vector<jail::IdMap>> ParseIdMap(std::string_view text) {
  std::vector<jail::IdMap> map;
  while (true) {
    const std::string_view line = text.substr(0, text.find(','));
    map.push_back(TRY(ParseLine(line)));
    if (map.size() > kMaxLines) {
      return Fail(ErrorKind::kInvalidArgument, "an id map has more than {} lines", kMaxLines);
    }
    if (line.size() == text.size()) break;
    text.remove_prefix(line.size() + 1);
  }
  TRY(CheckMap(map));
  return map;
}

Result<std::vector<jail::IdMap>> DefaultUserMap() {
  return DefaultMap("/proc/self/uid_map", geteuid());
}
Result<std::vector<jail::IdMap>> DefaultGroupMap() {
  return DefaultMap("/proc/self/gid_map", getegid());
}

Status EnterWorkerThread(sys::BorrowedFd self_fds) {
  if (unshare(CLONE_FS) != 0) return FailErrno("a working directory for a thread of its own");
  umask(0);
  KeepCapabilitiesOverUsers();
  if (fchdir(self_fds.get()) != 0) return FailErrno("entering /proc/self/fd");
  thread_state = ThreadState{};
  thread_state.umask_known = true;
  return {};
}

ScopedCaller::ScopedCaller(const Caller& caller) {
  ThreadState& state = thread_state;
  if (!state.known) {
    state.user = static_cast<uid_t>(syscall(SYS_geteuid));
    state.group = static_cast<gid_t>(syscall(SYS_getegid));
    state.known = true;
  }
  if (!state.umask_known || state.umask != caller.umask) {
    umask(caller.umask);
    state.umask = caller.umask;
    state.umask_known = true;
  }
  // The group first: without the user's rights it could not be changed.
  if (caller.group != state.group && SetEffectiveGroup(caller.group)) {
    group_back_ = state.group;
    group_changed_ = true;
  }
  if (caller.user != state.user && SetEffectiveUser(caller.user)) {
    user_back_ = state.user;
    user_changed_ = true;
  }
}

ScopedCaller::~ScopedCaller() {
  const int kept = errno;
  // A thread that cannot go back would work as somebody else from here on.
  if (user_changed_ && !SetEffectiveUser(user_back_)) abort();
  if (group_changed_ && !SetEffectiveGroup(group_back_)) abort();
  errno = kept;
}

void KeepSetIdBits(bool keep) {
  ThreadState& state = thread_state;
  if (state.keeps_set_id == static_cast<int>(keep)) return;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) != 0) return;
  constexpr uint32_t kBit = 1U << CAP_FSETID;
  const uint32_t effective =
      keep ? data[0].effective | (data[0].permitted & kBit) : data[0].effective & ~kBit;
  if (effective != data[0].effective) {
    data[0].effective = effective;
    if (syscall(SYS_capset, &header, data) != 0) return;
  }
  state.keeps_set_id = static_cast<int>(keep);
}

}  // namespace crosvm::shared_dir

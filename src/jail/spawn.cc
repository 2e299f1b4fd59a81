#include "jail/spawn.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>

#include "base/log.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace crosvm::jail {
namespace {

constexpr int kFirstInherited = 3;
constexpr int kExecFailed = 127;

struct NamespaceFlag {
  Layer layer;
  uint64_t flag;
};
constexpr NamespaceFlag kNamespaces[] = {
    {Layer::kUserNamespace, CLONE_NEWUSER},     {Layer::kPidNamespace, CLONE_NEWPID},
    {Layer::kMountNamespace, CLONE_NEWNS},      {Layer::kNetNamespace, CLONE_NEWNET},
    {Layer::kIpcNamespace, CLONE_NEWIPC},       {Layer::kUtsNamespace, CLONE_NEWUTS},
    {Layer::kCgroupNamespace, CLONE_NEWCGROUP},
};

uint64_t CloneFlags(Layers namespaces) {
  uint64_t flags = 0;
  for (const NamespaceFlag& entry : kNamespaces) {
    if (namespaces.Has(entry.layer)) flags |= entry.flag;
  }
  return flags;
}

// Everything that the child needs, laid out before the fork: afterwards only async-signal-safe
// calls are allowed.
struct ChildPlan {
  int program;
  char* const* argv;
  char* const* environment;
  const int* sources;
  size_t count;
  int null_fd;
  int go_fd;    // a byte arrives when the id maps are written
  int go_peer;  // its other end, which has to be closed here for the end of the parent to be seen
  bool take_first_id;
  bool as_sibling;
};

[[noreturn]] void Become(const ChildPlan& plan) {
  char go = 0;
  close(plan.go_peer);
  if (read(plan.go_fd, &go, 1) != 1) _exit(kExecFailed);
  if (plan.take_first_id) {
    // The one id that is mapped. Raw calls: the C library's would signal threads that do not exist
    // here.
    if (syscall(SYS_setgroups, 0, nullptr) != 0 && errno != EPERM) _exit(kExecFailed);
    if (syscall(SYS_setresgid, 0, 0, 0) != 0) _exit(kExecFailed);
    if (syscall(SYS_setresuid, 0, 0, 0) != 0) _exit(kExecFailed);
  }
  // Out of the way first, as a target number may be the source of another; then down to 3, 4, ….
  constexpr int kHigh = 512;
  const int program = kHigh + static_cast<int>(plan.count);
  for (size_t i = 0; i < plan.count; ++i) {
    if (dup2(plan.sources[i], kHigh + static_cast<int>(i)) < 0) _exit(kExecFailed);
  }
  if (dup2(plan.program, program) < 0) _exit(kExecFailed);
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO}) {
    if (dup2(plan.null_fd, standard) < 0) _exit(kExecFailed);
  }
  for (size_t i = 0; i < plan.count; ++i) {
    if (dup2(kHigh + static_cast<int>(i), kFirstInherited + static_cast<int>(i)) < 0) {
      _exit(kExecFailed);
    }
  }
  // Not closed at once: the program is one of them.
  if (syscall(SYS_close_range, static_cast<unsigned>(kFirstInherited + plan.count), ~0U,
              CLOSE_RANGE_CLOEXEC) != 0) {
    _exit(kExecFailed);
  }
  // Signals that the VMM blocks for its signalfd must reach the child.
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  syscall(SYS_execveat, program, "", plan.argv, plan.environment, AT_EMPTY_PATH);
  _exit(kExecFailed);
}

// What a process is left with of the environment: it may hold secrets of the user's, and nothing in
// it is for a device. Runtimes of test builds read theirs.
std::vector<char*> Environment() {
  constexpr std::string_view kKept[] = {
      "ASAN_OPTIONS=", "LSAN_OPTIONS=", "TSAN_OPTIONS=", "UBSAN_OPTIONS=", "LLVM_PROFILE_FILE="};
  std::vector<char*> kept;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const auto is_start = [&](std::string_view name) {
      return std::string_view(*entry).starts_with(name);
    };
    if (std::any_of(std::begin(kKept), std::end(kKept), is_start)) kept.push_back(*entry);
  }
  kept.push_back(nullptr);
  return kept;
}

std::string MapText(const std::vector<IdMap>& map) {
  std::string text;
  for (const IdMap& line : map) {
    text += fmt::format("{} {} {}\n", line.inside, line.outside, line.count);
  }
  return text;
}

Status WriteProcFile(const SpawnContext& context, pid_t pid, const char* name,
                     const std::string& text) {
  const std::string path = fmt::format("{}/{}", pid, name);
  const sys::UniqueFd file(openat(context.proc.get(), path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid()) return FailErrno("opening /proc/{}", path);
  return sys::WriteAll(file, text);
}

Status WriteIdMaps(pid_t pid, const SpawnOptions& options, const SpawnContext& context) {
  const bool root = geteuid() == 0;
  std::vector<IdMap> uids = options.uid_map;
  std::vector<IdMap> gids = options.gid_map;
  if (uids.empty()) uids = {{0, root ? kNobody : geteuid(), 1}};
  if (gids.empty()) gids = {{0, root ? kNobody : getegid(), 1}};
  // An ordinary user may map a group only after giving up setgroups (user_namespaces(7)).
  if (!root) TRY(WriteProcFile(context, pid, "setgroups", "deny"));
  TRY(WriteProcFile(context, pid, "uid_map", MapText(uids)));
  return WriteProcFile(context, pid, "gid_map", MapText(gids));
}

std::string Remedy(int err) {
  if (err == ENOSPC) return "the limit /proc/sys/user/max_user_namespaces is reached or 0";
  return "user namespaces may be forbidden here: see `crosvm doctor`, `sysctl "
         "kernel.unprivileged_userns_clone=1` (Debian) or `sysctl "
         "kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu); --jail=best-effort goes on "
         "with "
         "fewer layers, --disable-sandbox with none";
}

struct Cloned {
  sys::PidFd process;
  Layers namespaces;
};

Result<Cloned> Clone(Layers namespaces, const ChildPlan& plan) {
  int pidfd = -1;
  clone_args args{};
  args.flags = CLONE_PIDFD | CloneFlags(namespaces) | (plan.as_sibling ? CLONE_PARENT : 0);
  // SAFETY: the kernel stores an int there.
  args.pidfd = reinterpret_cast<uintptr_t>(&pidfd);
  // A sibling has that of its sibling.
  args.exit_signal = plan.as_sibling ? 0 : SIGCHLD;
  const long pid = syscall(SYS_clone3, &args, sizeof(args));
  if (pid < 0) {
    return FailErrno("starting a device process in new namespaces ({})", namespaces.ToString());
  }
  if (pid == 0) Become(plan);
  return Cloned{sys::PidFd::Adopt(sys::UniqueFd(pidfd), static_cast<pid_t>(pid)), namespaces};
}

// As many namespaces as the host gives: without a user namespace the others need root.
Result<Cloned> CloneBestEffort(Layers wanted, const ChildPlan& plan) {
  Result<Cloned> cloned = Clone(wanted, plan);
  for (const NamespaceFlag& entry : kNamespaces) {
    if (cloned.has_value()) return cloned;
    Layers fewer = wanted;
    fewer.Remove(entry.layer);
    cloned = Clone(fewer, plan);
  }
  if (cloned.has_value()) return cloned;
  return Clone(Layers(), plan);
}

}  // namespace

Result<SpawnContext> SpawnContext::Open() {
  SpawnContext context;
  context.proc = TRY(sys::Open("/proc", O_PATH | O_DIRECTORY));
  context.null_fd = TRY(sys::Open("/dev/null", O_RDWR));
  context.program = TRY(sys::Open("/proc/self/exe", O_PATH));
  return context;
}

Result<Spawned> Spawn(const SpawnOptions& options) {
  const SpawnContext context = TRY(SpawnContext::Open());
  return Spawn(options, context);
}

Result<Spawned> Spawn(const SpawnOptions& options, const SpawnContext& context) {
  Layers wanted;
  for (const NamespaceFlag& entry : kNamespaces) {
    if (options.namespaces.Has(entry.layer)) wanted.Add(entry.layer);
  }
  std::vector<char*> argv;
  argv.reserve(options.argv.size() + 1);
  for (const std::string& argument : options.argv) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  const std::vector<char*> environment = Environment();
  std::vector<int> sources;
  sources.reserve(options.inherit.size());
  for (const sys::BorrowedFd fd : options.inherit) sources.push_back(fd.get());
  auto [go_parent, go_child] = TRY(sys::UnixSocket::Pair(sys::SocketType::kSeqPacket));

  const bool root = geteuid() == 0;
  const int program = options.executable.valid() ? options.executable.get() : context.program.get();
  const ChildPlan plan = {.program = program,
                          .argv = argv.data(),
                          .environment = environment.data(),
                          .sources = sources.data(),
                          .count = sources.size(),
                          .null_fd = context.null_fd.get(),
                          .go_fd = go_child.fd().get(),
                          .go_peer = go_parent.fd().get(),
                          .take_first_id = root && wanted.Has(Layer::kUserNamespace),
                          .as_sibling = context.as_sibling};
  Result<Cloned> cloned = options.best_effort ? CloneBestEffort(wanted, plan) : Clone(wanted, plan);
  if (!cloned.has_value()) {
    const std::string remedy = Remedy(cloned.error().sys_errno());
    return Fail(cloned.error().kind(), "{}; {}", cloned.error().ToString(), remedy);
  }
  if (cloned->namespaces != wanted) {
    LOG_WARN("this host refuses layers of the jail: {}",
             wanted.Without(cloned->namespaces).ToString());
  }
  if (cloned->namespaces.Has(Layer::kUserNamespace)) {
    TRY_CONTEXT(WriteIdMaps(cloned->process.pid(), options, context),
                "mapping the ids of a device process");
  }
  const uint8_t go = 1;
  TRY(go_parent.Send({&go, 1}));
  Layers made = cloned->namespaces;
  if (context.root_is_empty) made.Add(Layer::kPivotRoot);
  return Spawned{std::move(cloned->process), made};
}

}  // namespace crosvm::jail

// The spawner's process: one thread, a loop of requests, until the VMM is gone.
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string_view>

#include "base/log.h"
#include "jail/confine.h"
#include "jail/spawner.h"
#include "sys/file.h"

namespace crosvm::jail {
namespace {

constexpr int kSocketFd = 3;
constexpr size_t kMaxRequest = 16384;

// Reads counters of the kernel's killings, which are not to be had in an empty root by name.
class OutOfMemoryWatch {
 public:
  OutOfMemoryWatch()
      : cgroups_(open("/sys/fs/cgroup", O_PATH | O_DIRECTORY | O_CLOEXEC)),
        proc_(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC)) {
    host_kills_ = HostKills();
    const std::string own = CgroupOf(getpid());
    seen_[own] = CgroupKills(own).value_or(0);
  }

  std::string Check(pid_t pid) {
    const bool host = Rises(host_kills_, HostKills());
    const std::string cgroup = CgroupOf(pid);
    // Counts what any limit or the host's own lack killed in the group; the root has no such file.
    const std::optional<uint64_t> kills = CgroupKills(cgroup);
    if (kills) {
      return Rises(seen_[cgroup], *kills)
                 ? fmt::format("killed for want of memory (the memory limit of cgroup {})", cgroup)
                 : "";
    }
    return host ? "killed by SIGKILL, perhaps for want of memory: the host ran out of it meanwhile"
                : "";
  }

 private:
  static std::string ReadAt(const sys::UniqueFd& directory, const std::string& path) {
    const sys::UniqueFd file(openat(directory.get(), path.c_str(), O_RDONLY | O_CLOEXEC));
    std::string text(8192, '\0');
    const ssize_t got = file.valid() ? read(file.get(), text.data(), text.size()) : 0;
    text.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return text;
  }
  // The number behind `key` and a space at the start of a line.
  static std::optional<uint64_t> Counter(const std::string& text, const std::string& key) {
    const size_t at = ("\n" + text).find("\n" + key + " ");
    if (at == std::string::npos) return std::nullopt;
    return strtoull(text.c_str() + at + key.size() + 1, nullptr, 10);
  }
  static bool Rises(uint64_t& seen, uint64_t now) { return now > std::exchange(seen, now); }
  // Version 2: "0::/user.slice/x". A group that was removed meanwhile has no counters.
  std::string CgroupOf(pid_t pid) const {
    const std::string text = ReadAt(proc_, fmt::format("{}/cgroup", pid));
    const size_t at = ("\n" + text).find("\n0::");
    if (at == std::string::npos) return {};
    return text.substr(at + 3, text.find('\n', at) - at - 3);
  }
  std::optional<uint64_t> CgroupKills(const std::string& cgroup) const {
    if (cgroup.empty()) return std::nullopt;
    return Counter(ReadAt(cgroups_, cgroup.substr(1) + "/memory.events"), "oom_kill");
  }
  uint64_t HostKills() const { return Counter(ReadAt(proc_, "vmstat"), "oom_kill").value_or(0); }

  sys::UniqueFd cgroups_;
  sys::UniqueFd proc_;
  std::map<std::string, uint64_t> seen_;
  uint64_t host_kills_ = 0;
};

// A file, whatever descriptor it is opened by. All zero: this program.
struct FileId {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const FileId&) const = default;
};

// What a sealed spawner compares: everything but the label of the device and its sockets.
struct Profile {
  std::string entry;
  Layers namespaces;
  std::vector<IdMap> uid_map;
  std::vector<IdMap> gid_map;
  bool best_effort;
  bool host_root;
  FileId program;
  bool operator==(const Profile&) const = default;
};

// One that was started before the seal, and its program if that is another than this. The file is
// kept open: its number stays its own, and it is what is executed again.
struct KnownProfile {
  Profile profile;
  sys::UniqueFd program;
};

class SpawnerProcess {
 public:
  Status Prepare(bool empty_root, bool best_effort) {
    context_ = TRY(SpawnContext::Open());
    context_.as_sibling = true;
    if (empty_root) {
      // Without it each device makes its own, or is told what the host refuses.
      const Status entered = EnterTemplate();
      if (!entered.has_value()) LOG_DEBUG("no empty root: {}", entered.error().ToString());
      context_.root_is_empty = entered.has_value();
    }
    // What is left is for the id maps of devices, which is nothing in a user namespace of its own.
    std::vector<int> keep = {CAP_SETUID, CAP_SETGID, CAP_SETFCAP};
    if (best_effort) keep.push_back(CAP_SYS_ADMIN);  // namespaces without a user namespace
    const bool has_any = geteuid() == 0 || context_.root_is_empty;
    return has_any ? DropCapabilities(keep) : Status();
  }

  void Serve() {
    std::vector<uint8_t> buffer(kMaxRequest);
    while (true) {
      const Result<sys::Received> got = socket_.Receive(buffer);
      if (!got.has_value() || got->bytes == 0) return;
      const Result<SpawnRequest> request = DecodeSpawnRequest({buffer.data(), got->bytes});
      if (!request.has_value()) return;
      if (!Answer(*request, got->fds).has_value()) return;
    }
  }

 private:
  // One mount namespace with nothing in it, which those of devices are copies of.
  static Status EnterTemplate() {
    const uid_t uid = geteuid();
    const gid_t gid = getegid();
    if (uid != 0) {
      if (unshare(CLONE_NEWUSER) != 0) return FailErrno("making a user namespace");
      TRY(WriteOwn("setgroups", "deny"));
      TRY(WriteOwn("uid_map", fmt::format("{} {} 1\n", uid, uid)));
      TRY(WriteOwn("gid_map", fmt::format("{} {} 1\n", gid, gid)));
    }
    if (unshare(CLONE_NEWNS) != 0) return FailErrno("making a mount namespace");
    return EnterEmptyRoot();
  }
  static Status WriteOwn(const char* name, const std::string& text) {
    const sys::UniqueFd file = TRY(sys::Open(fmt::format("/proc/self/{}", name), O_WRONLY));
    return sys::WriteAll(file, text);
  }

  Status Answer(const SpawnRequest& request, const std::vector<sys::UniqueFd>& fds) {
    SpawnAnswer answer{.number = request.number};
    if (request.kind == SpawnRequest::Kind::kSeal) {
      sealed_ = true;
      return Send(answer);
    }
    if (request.kind == SpawnRequest::Kind::kOutOfMemory) {
      answer.text = out_of_memory_.Check(request.pid);
      return Send(answer);
    }
    const Result<Spawned> spawned = Start(request, fds);
    if (!spawned.has_value()) {
      answer.text = spawned.error().ToString();
      return Send(answer);
    }
    answer.pid = spawned->process.pid();
    answer.namespaces = spawned->namespaces;
    const sys::BorrowedFd pidfd = spawned->process.fd();
    return Send(answer, {&pidfd, 1});
  }

  Result<Spawned> Start(const SpawnRequest& request, const std::vector<sys::UniqueFd>& fds) {
    const size_t expected = request.inherited + (request.has_executable ? 1 : 0);
    if (fds.size() != expected || request.spawn.argv.size() < 2) {
      return Fail(ErrorKind::kProtocol, "a malformed request to the spawner");
    }
    if (request.spawn.host_root && context_.root_is_empty) {
      return Fail(ErrorKind::kInternal, "this spawner has no host's tree");
    }
    const Profile profile = {.entry = request.spawn.argv[1],
                             .namespaces = request.spawn.namespaces,
                             .uid_map = request.spawn.uid_map,
                             .gid_map = request.spawn.gid_map,
                             .best_effort = request.spawn.best_effort,
                             .host_root = request.spawn.host_root,
                             .program = TRY(ProgramOf(request, fds))};
    auto known = std::find_if(known_.begin(), known_.end(), [&](const KnownProfile& candidate) {
      return candidate.profile == profile;
    });
    // TRUST: the VMM runs a guest by now; what it may ask for is what it asked for before.
    if (sealed_ && known == known_.end()) {
      return Fail(ErrorKind::kPermissionDenied,
                  "the spawner is sealed: no such device was started");
    }
    if (known == known_.end()) {
      KnownProfile added{.profile = profile, .program = sys::UniqueFd()};
      if (request.has_executable) added.program = TRY(fds.back().Dup());
      known = known_.insert(known_.end(), std::move(added));
    }
    SpawnOptions options = request.spawn;
    for (size_t i = 0; i < request.inherited; ++i) options.inherit.emplace_back(fds[i]);
    options.executable = known->program;
    return jail::Spawn(options, context_);
  }

  static Result<FileId> ProgramOf(const SpawnRequest& request,
                                  const std::vector<sys::UniqueFd>& fds) {
    if (!request.has_executable) return FileId();
    const struct stat info = TRY(sys::Stat(fds.back()));
    return FileId{.device = info.st_dev, .inode = info.st_ino};
  }

  Status Send(const SpawnAnswer& answer, std::span<const sys::BorrowedFd> fds = {}) {
    TRY(socket_.Send(EncodeSpawnAnswer(answer), fds));
    return {};
  }

  sys::UnixSocket socket_{sys::UniqueFd(kSocketFd)};
  OutOfMemoryWatch out_of_memory_;
  SpawnContext context_;
  std::vector<KnownProfile> known_;
  bool sealed_ = false;
};

}  // namespace

int SpawnerMain(int argc, char** argv) {
  prctl(PR_SET_NAME, "spawner");
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  // The terminal's signals are for the VMM, which ends this process.
  signal(SIGINT, SIG_IGN);
  signal(SIGTERM, SIG_IGN);
  const auto has = [&](std::string_view word) {
    return std::find(argv + 1, argv + argc, word) != argv + argc;
  };
  SetLogLabel("spawner");
  SpawnerProcess process;
  const Status ready = process.Prepare(has("empty-root"), has("best-effort"));
  if (!ready.has_value()) {
    LOG_ERROR("{}", ready.error().ToString());
    return 1;
  }
  process.Serve();
  return 0;
}

}  // namespace crosvm::jail

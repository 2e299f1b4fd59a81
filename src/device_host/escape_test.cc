// What a taken-over device process could try, tried: in the jail as it is, with its namespaces
// alone, with its filter alone; as root and as an ordinary user. Each attempt runs in a process of
// its own, which confines itself as ChildMain() does.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "devices/module/module.h"
#include "jail/confine.h"
#include "jail/filter.h"
#include "jail/report.h"
#include "jail/spawn.h"
#include "sys/socket.h"
#include "testing/child_main.h"

namespace crosvm::device_host {
namespace {

// Exit statuses of an attempt; death by SIGSYS is a refusal too.
constexpr int kEscaped = 10;
constexpr int kRefused = 20;
constexpr int kBroken = 30;

struct Targets {
  pid_t vmm = 0;
  pid_t sibling = 0;
};

struct Attempt {
  const char* name;
  bool (*succeeds)(const Targets&);
};

bool CanRead(const char* path) {
  return syscall(SYS_openat, AT_FDCWD, path, O_RDONLY, 0) >= 0;
}
bool CanSocket(int family, int type) {
  return syscall(SYS_socket, family, type, 0) >= 0;
}

bool CanConnect(const Targets&) {
  // A listening socket of the host, if there is one; the socket alone is an escape already.
  const int fd = static_cast<int>(syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof(address.sun_path), "/run/dbus/system_bus_socket");
  return syscall(SYS_connect, fd < 0 ? 3 : fd, &address, sizeof(address)) == 0;
}

bool CanReadMemory(const Targets& targets) {
  std::array<char, 8> buffer{};
  iovec ours = {buffer.data(), buffer.size()};
  // The right is checked before the address: EFAULT is an escape too.
  iovec theirs = {buffer.data(), buffer.size()};
  const long got = syscall(SYS_process_vm_readv, targets.vmm, &ours, 1, &theirs, 1, 0);
  return got > 0 || errno == EFAULT;
}

bool CanUringOpen(const Targets&) {
  io_uring_params params{};
  return syscall(SYS_io_uring_setup, 4, &params) >= 0;
}

bool CanPerf(const Targets& targets) {
  perf_event_attr attributes{};
  attributes.size = sizeof(attributes);
  attributes.type = PERF_TYPE_SOFTWARE;
  attributes.config = PERF_COUNT_SW_CPU_CLOCK;
  return syscall(SYS_perf_event_open, &attributes, targets.vmm, -1, -1, 0) >= 0;
}

bool CanOpenat2(const Targets&) {
  const uint64_t how[3] = {O_RDONLY, 0, 0};
  return syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", how, sizeof(how)) >= 0;
}

// The VMM reads the same open files.
bool CanClearNonBlocking(const Targets&) {
  const long fd = syscall(SYS_eventfd2, 0, EFD_NONBLOCK);
  return syscall(SYS_fcntl, fd, F_SETFL, O_RDWR) == 0;
}

bool CanSetBlocking(const Targets&) {
  const long fd = syscall(SYS_eventfd2, 0, EFD_NONBLOCK);
  int off = 0;
  return syscall(SYS_ioctl, fd, FIONBIO, &off) == 0;
}

bool CanFork(const Targets&) {
  const long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) syscall(SYS_exit_group, 0);
  return pid > 0;
}

bool CanExec(const Targets&) {
  const char* const arguments[] = {"sh", "-c", "exit 10", nullptr};
  syscall(SYS_execve, "/bin/sh", arguments, nullptr);
  return false;  // had it worked, the shell would have said 10
}

// What namespaces leave open on purpose, as nothing outside is in reach through it: see
// docs/jail.md.
constexpr std::array kHeldByFilterAlone = {
    "socket unix",  "socket inet", "socket netlink",  "fork",    "io_uring_setup", "userfaultfd",
    "socket vsock", "keyctl",      "perf_event_open", "F_SETFL", "FIONBIO"};

const Attempt kAttempts[] = {
    {"open", [](const Targets&) { return CanRead("/etc/passwd"); }},
    {"openat2", &CanOpenat2},
    {"read /proc", [](const Targets&) { return CanRead("/proc/self/status"); }},
    {"read /sys", [](const Targets&) { return CanRead("/sys/kernel/uevent_seqnum"); }},
    {"socket inet", [](const Targets&) { return CanSocket(AF_INET, SOCK_STREAM); }},
    {"socket unix", [](const Targets&) { return CanSocket(AF_UNIX, SOCK_STREAM); }},
    {"socket netlink", [](const Targets&) { return CanSocket(AF_NETLINK, SOCK_RAW); }},
    {"socket vsock", [](const Targets&) { return CanSocket(AF_VSOCK, SOCK_STREAM); }},
    {"connect", &CanConnect},
    {"execve", &CanExec},
    {"fork", &CanFork},
    {"ptrace VMM",
     [](const Targets& t) { return syscall(SYS_ptrace, PTRACE_SEIZE, t.vmm, 0, 0) == 0; }},
    {"process_vm_readv VMM", &CanReadMemory},
    {"kill VMM", [](const Targets& t) { return syscall(SYS_kill, t.vmm, SIGURG) == 0; }},
    {"kill sibling", [](const Targets& t) { return syscall(SYS_kill, t.sibling, SIGURG) == 0; }},
    {"tgkill sibling",
     [](const Targets& t) { return syscall(SYS_tgkill, t.sibling, t.sibling, SIGURG) == 0; }},
    {"pidfd_open VMM", [](const Targets& t) { return syscall(SYS_pidfd_open, t.vmm, 0) >= 0; }},
    {"mount", [](const Targets&) { return mount("none", "/", "tmpfs", 0, nullptr) == 0; }},
    {"unshare", [](const Targets&) { return syscall(SYS_unshare, CLONE_NEWNS) == 0; }},
    {"setns", [](const Targets&) { return syscall(SYS_setns, 3, 0) == 0; }},
    {"keyctl", [](const Targets&) { return syscall(SYS_keyctl, 0, -3, 1, 0, 0) >= 0; }},
    {"bpf",
     [](const Targets&) {
       std::array<uint64_t, 16> attributes{};
       attributes[0] = 2 | (uint64_t{4} << 32);  // an array with keys of 4 bytes
       attributes[1] = 4 | (uint64_t{1} << 32);
       return syscall(SYS_bpf, 0, attributes.data(), sizeof(attributes)) >= 0;
     }},
    {"perf_event_open", &CanPerf},
    {"userfaultfd", [](const Targets&) { return syscall(SYS_userfaultfd, 1) >= 0; }},
    {"io_uring_setup", &CanUringOpen},
    {"F_SETFL", &CanClearNonBlocking},
    {"FIONBIO", &CanSetBlocking},
};

// kNothing shows that an attempt works at all where nothing holds it.
enum class Mode : int { kJail, kNamespaces, kFilter, kNothing };

// argv: attempt, mode, module, VMM, sibling.
CROSVM_CHILD_MAIN(TryEscape) {
  const Attempt& attempt = kAttempts[atoi(argv[1])];
  const auto mode = static_cast<Mode>(atoi(argv[2]));
  const devices::DeviceModule* const module = devices::FindModule(argv[3]);
  const Targets targets = {.vmm = atoi(argv[4]), .sibling = atoi(argv[5])};
  if (mode == Mode::kNothing) {
    syscall(SYS_exit_group, attempt.succeeds(targets) ? kEscaped : kRefused);
  }
  const jail::Layers namespaces = mode == Mode::kFilter ? jail::Layers() : jail::Layers::All();
  jail::ConfineOptions options = {.namespaces = namespaces};
  // Rights are kept here, so that only the filter's own merit is seen.
  if (mode == Mode::kFilter) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return kBroken;
  } else if (!jail::Confine(options).has_value()) {
    return kBroken;
  }
  if (mode != Mode::kNamespaces &&
      !jail::InstallFilter(module->policy.code, jail::FilterScope::kProcess).has_value()) {
    return kBroken;
  }
  // Not exit(): what a sanitizer does there is not part of this.
  syscall(SYS_exit_group, attempt.succeeds(targets) ? kEscaped : kRefused);
  return kBroken;
}

// "refused", "SIGSYS", "ESCAPED" or what went wrong.
std::string Try(size_t attempt, Mode mode, const char* module, pid_t sibling) {
  jail::SpawnOptions options;
  options.argv = {"jailed",
                  "--child-main=TryEscape",
                  std::to_string(attempt),
                  std::to_string(static_cast<int>(mode)),
                  module,
                  std::to_string(getpid()),
                  std::to_string(sibling)};
  if (mode == Mode::kFilter || mode == Mode::kNothing) options.namespaces = jail::Layers();
  const Result<jail::Spawned> spawned = jail::Spawn(options);
  if (!spawned.has_value()) return spawned.error().ToString();
  const Result<sys::ExitStatus> status = spawned->process.Wait();
  if (!status.has_value()) return status.error().ToString();
  if (status->signaled) return status->code == SIGSYS ? "SIGSYS" : status->ToString();
  if (status->code == kRefused) return "refused";
  return status->code == kEscaped ? "ESCAPED" : status->ToString();
}

bool IsRefusal(const std::string& outcome) {
  return outcome == "refused" || outcome == "SIGSYS";
}

bool NamespacesMayAllow(const char* name) {
  for (const char* const one : kHeldByFilterAlone) {
    if (strcmp(one, name) == 0) return true;
  }
  return false;
}

// All attempts in all modes; the number of wrong outcomes, which are printed with the table.
int TryAll(const char* who) {
  signal(SIGURG, SIG_IGN);
  const pid_t sibling = fork();
  if (sibling == 0) {
    while (true) pause();
  }
  int wrong = 0;
  int possible = 0;
  printf("%-22s %-10s %-10s %-10s %-12s %-12s %-12s  as %s\n", "attempt", "block", "rng", "console",
         "namespaces", "filter", "unconfined", who);
  for (size_t i = 0; i < std::size(kAttempts); ++i) {
    const char* const name = kAttempts[i].name;
    printf("%-22s", name);
    for (const char* const module : {"block", "rng", "console"}) {
      const std::string outcome = Try(i, Mode::kJail, module, sibling);
      wrong += IsRefusal(outcome) ? 0 : 1;
      printf(" %-10s", outcome.c_str());
    }
    const std::string namespaces = Try(i, Mode::kNamespaces, "block", sibling);
    wrong += IsRefusal(namespaces) || (NamespacesMayAllow(name) && namespaces == "ESCAPED") ? 0 : 1;
    const std::string filter = Try(i, Mode::kFilter, "block", sibling);
    wrong += IsRefusal(filter) ? 0 : 1;
    // Not for mounts: an unconfined one would cover the host's root.
    const std::string unconfined =
        strcmp(name, "mount") == 0 ? "(not tried)" : Try(i, Mode::kNothing, "block", sibling);
    possible += unconfined == "ESCAPED" ? 1 : 0;
    printf(" %-12s %-12s %-12s\n", namespaces.c_str(), filter.c_str(), unconfined.c_str());
    fflush(stdout);
  }
  kill(sibling, SIGKILL);
  waitpid(sibling, nullptr, 0);
  // Attempts that fail anyway would prove nothing. Hosts differ in what they give everybody (perf,
  // userfaultfd, bpf).
  constexpr int kCommonlyPossible = 12;
  if (possible < kCommonlyPossible) {
    printf("only %d of the attempts work without a jail\n", possible);
    ++wrong;
  }
  return wrong;
}

CROSVM_CHILD_MAIN(TryAllAsUser) {
  constexpr uid_t kSomebody = 12345;
  if (setresgid(kSomebody, kSomebody, kSomebody) != 0 ||
      setresuid(kSomebody, kSomebody, kSomebody) != 0) {
    return 99;
  }
  // Changing ids made /proc/self unreadable, which the id maps are written through.
  prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  return std::min(TryAll("an ordinary user"), 98);
}

TEST(EscapeTest, NothingGetsOut) {
  CROSVM_REQUIRE_USER_NAMESPACES();
  EXPECT_EQ(TryAll(getuid() == 0 ? "root" : "an ordinary user"), 0);
}

TEST(EscapeTest, NothingGetsOutAsAnOrdinaryUser) {
  CROSVM_REQUIRE_USER_NAMESPACES();
  if (getuid() != 0) GTEST_SKIP() << "the test above is that already";
  EXPECT_EQ(testing::WaitChild(testing::SpawnChild("TryAllAsUser", {})), 0);
}

// Confines itself, says so, and makes the call that the policy of the block device denies.
CROSVM_CHILD_MAIN(DiesOfACall) {
  const devices::DeviceModule* const module = devices::FindModule(argv[1]);
  if (!jail::InstallReports(
           {.label = "disk[0]", .source = module->policy.source, .words = sys::UniqueFd(3)})
           .has_value()) {
    return 1;
  }
  if (!jail::Confine({.namespaces = jail::Layers::All()}).has_value()) return 2;
  if (!jail::InstallFilter(module->policy.code, jail::FilterScope::kProcess).has_value()) return 3;
  prctl(PR_SET_NAME, "worker", 0, 0, 0);
  const std::string how = argv[2];
  if (how == "call") syscall(SYS_userfaultfd, 1L, 0x22L, 3L, 4L, 5L, 6L);
  if (how == "crash") *reinterpret_cast<volatile int*>(uintptr_t{0x1234560}) = 1;
  if (how == "abort") abort();
  return 4;
}

// How it ended, and its last words with the places cut out of them.
std::pair<std::string, std::string> Die(const std::string& module, const std::string& how) {
  jail::LastWords::Ends words = *jail::LastWords::Create();
  jail::SpawnOptions options;
  options.argv = {"jailed", "--child-main=DiesOfACall", module, how};
  options.inherit = {words.writer};
  const jail::Spawned spawned = *jail::Spawn(options);
  const std::string ended = spawned.process.Wait()->ToString();
  std::string said = words.reader.Read();
  said = said.substr(0, said.find("  called from:"));
  for (const char* const place :
       {" at jailed+0x", " at exe+0x", " at libc.so.6+0x", " at crosvm+0x"}) {
    const size_t begin = said.find(place);
    if (begin == std::string::npos) continue;
    said.replace(begin, said.find('\n', begin) - begin, " at PLACE");
  }
  return {ended, said};
}

TEST(ReportTest, ADeniedCallIsExplained) {
  CROSVM_REQUIRE_USER_NAMESPACES();
  for (const std::string module : {"block", "rng", "console"}) {
    const auto [ended, said] = Die(module, "call");
    EXPECT_EQ(ended, "killed by SIGSYS");
    EXPECT_EQ(
        said,
        "disk[0] (pid 1, thread 1 'worker'): denied system call userfaultfd(0x1, 0x22, 0x3, 0x4, "
        "0x5, 0x6) at PLACE\n"
        "  rule that allows it: userfaultfd: 1   (in src/devices/" +
            module + "/" + module + ".policy)\n");
  }
}

TEST(ReportTest, ACrashIsExplained) {
  CROSVM_REQUIRE_USER_NAMESPACES();
  const auto [ended, said] = Die("block", "crash");
  EXPECT_EQ(ended, "killed by SIGSEGV");
  EXPECT_TRUE(
      said.starts_with("disk[0] (pid 1, thread 1 'worker'): crashed by SIGSEGV at address "
                       "0x1234560, instruction "))
      << said;
  const auto [aborted, why] = Die("block", "abort");
  EXPECT_EQ(aborted, "exit status 134");
  EXPECT_TRUE(why.starts_with("disk[0] (pid 1, thread 1 'worker'): crashed by SIGABRT")) << why;
}

TEST(ReportTest, RulesNameTheArgumentThatDecides) {
  const uint64_t arguments[6] = {1, 2, 3, 4, 5, 6};
  EXPECT_EQ(jail::AllowingRule(SYS_socket, arguments), "socket: arg0 == 0x1");
  EXPECT_EQ(jail::AllowingRule(SYS_ioctl, arguments), "ioctl: arg1 == 0x2");
  EXPECT_EQ(jail::AllowingRule(SYS_openat2, arguments), "openat2: 1");
  EXPECT_EQ(jail::AllowingRule(100000, arguments), "none: the call is not known");
}

}  // namespace
}  // namespace crosvm::device_host

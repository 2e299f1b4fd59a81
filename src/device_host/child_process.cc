#include "device_host/child_process.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

#include "sys/file.h"

namespace crosvm::device_host {
namespace {

constexpr int kFirstInherited = 3;
// Exit statuses of a child that failed before it became the program; the start channel then just closes.
constexpr int kExecFailed = 127;

// Runs in the child of a process with threads: only async-signal-safe calls from here on.
[[noreturn]] void Become(char* const* argv, const int* sources, size_t count, int null_fd) {
  // Out of the way first, as a target number may be the source of another; then down to 3, 4, ….
  const int high = 1000;
  for (size_t i = 0; i < count; ++i) {
    if (dup2(sources[i], high + static_cast<int>(i)) < 0) _exit(kExecFailed);
  }
  if (dup2(null_fd, STDIN_FILENO) < 0) _exit(kExecFailed);
  for (size_t i = 0; i < count; ++i) {
    if (dup2(high + static_cast<int>(i), kFirstInherited + static_cast<int>(i)) < 0) {
      _exit(kExecFailed);
    }
  }
  syscall(SYS_close_range, static_cast<unsigned>(kFirstInherited) + count, ~0U, 0);
  // Signals that the VMM blocks for its signalfd must reach the child.
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execv("/proc/self/exe", argv);
  _exit(kExecFailed);
}

}  // namespace

Result<sys::PidFd> SpawnSelf(std::span<const std::string> argv,
                             std::span<const sys::BorrowedFd> inherit) {
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  std::vector<int> sources;
  for (const sys::BorrowedFd fd : inherit) sources.push_back(fd.get());
  const sys::UniqueFd null_fd = TRY(sys::Open("/dev/null", O_RDWR));

  int pidfd = -1;
  clone_args args{};
  args.flags = CLONE_PIDFD;
  // SAFETY: the kernel stores an int there.
  args.pidfd = reinterpret_cast<uintptr_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  const long pid = syscall(SYS_clone3, &args, sizeof(args));
  if (pid < 0) return FailErrno("starting a device process");
  if (pid == 0) Become(arguments.data(), sources.data(), sources.size(), null_fd.get());
  return sys::PidFd::Adopt(sys::UniqueFd(pidfd), static_cast<pid_t>(pid));
}

}  // namespace crosvm::device_host

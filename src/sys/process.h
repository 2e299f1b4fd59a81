// pidfd, signalfd, and how a process ended.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "sys/fd.h"

namespace crosvm::sys {

// How a child ended, for a report: "exit status 1", "killed by SIGSEGV".
struct ExitStatus {
  bool signaled = false;
  int code = 0;  // exit status, or the signal
  bool core_dumped = false;

  bool ok() const { return !signaled && code == 0; }
  std::string ToString() const;
};

// Owns the right to wait for one child. Does not kill it when destroyed.
class PidFd {
 public:
  PidFd() = default;
  // `pid` is a child of ours that nobody has waited for.
  static Result<PidFd> Open(pid_t pid);
  // Takes a pidfd made by clone3(CLONE_PIDFD).
  static PidFd Adopt(UniqueFd fd, pid_t pid);

  bool valid() const { return fd_.valid(); }
  // Readable when the process has ended.
  const UniqueFd& fd() const { return fd_; }
  pid_t pid() const { return pid_; }

  Status Signal(int signal) const;
  // Reaps: empty while the process runs (WNOHANG).
  Result<std::optional<ExitStatus>> TryWait() const;
  // Reaps; blocks.
  Result<ExitStatus> Wait() const;

 private:
  UniqueFd fd_;
  pid_t pid_ = -1;
};

// signalfd(2) over the given signals, which are blocked in the calling thread (start threads
// afterwards).
class SignalFd {
 public:
  static Result<SignalFd> Create(std::span<const int> signals);
  const UniqueFd& fd() const { return fd_; }
  // The next pending signal number; empty when none.
  std::optional<int> Read() const;

 private:
  UniqueFd fd_;
};

// "SIGSEGV", or "signal 64" for one without a name.
std::string SignalName(int signal);

}  // namespace crosvm::sys

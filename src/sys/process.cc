#include "sys/process.h"

// glibc 2.36 forgot the C linkage of its declarations.
extern "C" {
#include <sys/pidfd.h>
}
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <cstring>

namespace crosvm::sys {
namespace {

// Empty when `options` has WNOHANG and the process runs.
Result<std::optional<ExitStatus>> Reap(const UniqueFd& fd, pid_t pid, int options) {
  siginfo_t info{};
  const int result = RetryEintr([&] {
    info = {};
    return waitid(P_PIDFD, static_cast<id_t>(fd.get()), &info, WEXITED | options);
  });
  if (result == -1) return FailErrno("waiting for process {}", pid);
  if (info.si_pid == 0) return std::optional<ExitStatus>();
  ExitStatus status;
  status.signaled = info.si_code != CLD_EXITED;
  status.code = info.si_status;
  status.core_dumped = info.si_code == CLD_DUMPED;
  return std::optional<ExitStatus>(status);
}

}  // namespace

std::string ExitStatus::ToString() const {
  if (!signaled) return fmt::format("exit status {}", code);
  return fmt::format("killed by {}{}", SignalName(code), core_dumped ? " (core dumped)" : "");
}

Result<PidFd> PidFd::Open(pid_t pid) {
  UniqueFd fd(pidfd_open(pid, 0));
  if (!fd.valid()) return FailErrno("opening process {}", pid);
  return Adopt(std::move(fd), pid);
}

PidFd PidFd::Adopt(UniqueFd fd, pid_t pid) {
  PidFd out;
  out.fd_ = std::move(fd);
  out.pid_ = pid;
  return out;
}

Status PidFd::Signal(int signal) const {
  if (pidfd_send_signal(fd_.get(), signal, nullptr, 0) == -1) {
    return FailErrno("sending {} to process {}", SignalName(signal), pid_);
  }
  return {};
}

Result<std::optional<ExitStatus>> PidFd::TryWait() const {
  return Reap(fd_, pid_, WNOHANG);
}

Result<ExitStatus> PidFd::Wait() const {
  const std::optional<ExitStatus> status = TRY(Reap(fd_, pid_, 0));
  if (!status) return Fail(ErrorKind::kInternal, "process {} has not ended", pid_);
  return *status;
}

Result<SignalFd> SignalFd::Create(std::span<const int> signals) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) sigaddset(&set, signal);
  if (const int err = pthread_sigmask(SIG_BLOCK, &set, nullptr); err != 0) {
    return std::unexpected(Error::FromErrno(err, "blocking signals"));
  }
  SignalFd out;
  out.fd_ = UniqueFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!out.fd_.valid()) return FailErrno("creating a signalfd");
  return out;
}

std::optional<int> SignalFd::Read() const {
  signalfd_siginfo info{};
  const ssize_t size = RetryEintr([&] { return read(fd_.get(), &info, sizeof(info)); });
  if (size != static_cast<ssize_t>(sizeof(info))) return std::nullopt;
  return static_cast<int>(info.ssi_signo);
}

std::string SignalName(int signal) {
  const char* name = sigabbrev_np(signal);
  return name != nullptr ? fmt::format("SIG{}", name) : fmt::format("signal {}", signal);
}

}  // namespace crosvm::sys

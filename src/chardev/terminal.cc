#include "chardev/terminal.h"

#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <utility>

namespace crosvm::chardev {
namespace {

// Faults come first to us even if somebody handles them (a sanitizer, a crash reporter), who then
// gets them.
constexpr int kFaults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
constexpr int kDeadly[] = {SIGHUP, SIGINT,  SIGQUIT, SIGTERM, SIGXCPU,
                           SIGSYS, SIGTRAP, SIGALRM, SIGPIPE};
constexpr int kSignalCount = 65;

// What the handlers use. Written on the main thread before `installed` is set.
struct Saved {
  int fd = -1;
  termios cooked{};
  termios raw{};
  struct sigaction old_actions[kSignalCount]{};
  bool handled[kSignalCount]{};
};
Saved saved;
// ORDERING: release when the guard is set up, acquire in the handlers, so that they see `saved`
// whole.
std::atomic<bool> installed = false;
static_assert(std::atomic<bool>::is_always_lock_free);

void SetMode(const termios& mode) {
  const int err = errno;
  // A background process that changes its own terminal would be stopped by SIGTTOU; another
  // terminal has no say.
  const pid_t foreground = tcgetpgrp(saved.fd);
  if (foreground == -1 || foreground == getpgid(0)) {
    while (tcsetattr(saved.fd, TCSANOW, &mode) != 0 && errno == EINTR) {
    }
  }
  errno = err;
}

bool IsFault(int signal) {
  for (const int fault : kFaults) {
    if (fault == signal) return true;
  }
  return false;
}

void OnDeadly(int signal, siginfo_t* info, void*) {
  RestoreTerminalFromSignal();
  // Whatever was there before acts now. A fault happens again by itself, with its details; others
  // are sent again.
  sigaction(signal, &saved.old_actions[signal], nullptr);
  if (!IsFault(signal) || info->si_code <= 0) raise(signal);
}

void OnStop(int, siginfo_t*, void*) {
  RestoreTerminalFromSignal();
  raise(SIGSTOP);
}

void OnContinue(int, siginfo_t*, void*) {
  if (installed.load(std::memory_order_acquire)) SetMode(saved.raw);
}

void Handle(int signal, void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction old{};
  if (sigaction(signal, nullptr, &old) != 0) return;
  const bool by_default = (old.sa_flags & SA_SIGINFO) == 0 && old.sa_handler == SIG_DFL;
  if (!by_default && !IsFault(signal)) return;  // somebody has a plan for it
  struct sigaction action{};
  action.sa_sigaction = handler;
  action.sa_flags = SA_RESTART | SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  saved.old_actions[signal] = old;
  saved.handled[signal] = sigaction(signal, &action, nullptr) == 0;
}

termios RawOf(termios mode) {
  mode.c_iflag &= ~static_cast<tcflag_t>(BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
  mode.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
  mode.c_cc[VMIN] = 1;
  mode.c_cc[VTIME] = 0;
  return mode;
}

}  // namespace

void RestoreTerminalFromSignal() {
  if (installed.load(std::memory_order_acquire)) SetMode(saved.cooked);
}

Result<RawTerminal> RawTerminal::Enter(sys::BorrowedFd fd) {
  if (isatty(fd.get()) == 0) return RawTerminal();
  if (installed.load(std::memory_order_acquire)) {
    return Fail(ErrorKind::kBusy, "the terminal is in raw mode already");
  }
  // Kept open for good: a handler may run until the last moment.
  static sys::UniqueFd terminal;
  terminal = TRY(fd.Dup());
  saved = Saved();
  saved.fd = terminal.get();
  if (tcgetattr(saved.fd, &saved.cooked) != 0) return FailErrno("reading the terminal's mode");
  saved.raw = RawOf(saved.cooked);
  static const bool at_exit = std::atexit(RestoreTerminalFromSignal) == 0;
  (void)at_exit;
  installed.store(true, std::memory_order_release);
  for (const int signal : kFaults) Handle(signal, OnDeadly);
  for (const int signal : kDeadly) Handle(signal, OnDeadly);
  Handle(SIGTSTP, OnStop);
  Handle(SIGCONT, OnContinue);
  SetMode(saved.raw);
  RawTerminal guard;
  guard.active_ = true;
  return guard;
}

void RawTerminal::Restore() {
  if (!std::exchange(active_, false)) return;
  SetMode(saved.cooked);
  installed.store(false, std::memory_order_release);
  for (int signal = 1; signal < kSignalCount; ++signal) {
    if (saved.handled[signal]) sigaction(signal, &saved.old_actions[signal], nullptr);
  }
}

RawTerminal::RawTerminal(RawTerminal&& other) noexcept
    : active_(std::exchange(other.active_, false)) {
}

RawTerminal& RawTerminal::operator=(RawTerminal&& other) noexcept {
  if (this != &other) {
    Restore();
    active_ = std::exchange(other.active_, false);
  }
  return *this;
}

RawTerminal::~RawTerminal() {
  Restore();
}

}  // namespace crosvm::chardev

// Raw mode of the user's terminal while a guest owns it, and the way back on every way out: normal
// exit, a deadly signal, being stopped. SIGKILL alone leaves the terminal raw.
#pragma once

#include <optional>

#include "base/result.h"
#include "sys/fd.h"

namespace crosvm::chardev {

// At most one lives in a process (the state that signal handlers need is global). Main thread.
class RawTerminal {
 public:
  RawTerminal() = default;
  RawTerminal(RawTerminal&& other) noexcept;
  RawTerminal& operator=(RawTerminal&& other) noexcept;
  ~RawTerminal();

  // Puts the terminal of `fd` into raw input mode: no echo, no line editing, no signals from keys;
  // output processing stays on. An inactive guard when `fd` is no terminal. Signals whose action is
  // the default one and deadly get a handler that restores the terminal and then lets the signal
  // act; SIGTSTP and SIGCONT are handled as well. kBusy when another guard is active.
  static Result<RawTerminal> Enter(sys::BorrowedFd fd);

  bool active() const { return active_; }
  // Restores now; for a process that is about to _exit() or exec.
  void Restore();

 private:
  bool active_ = false;
};

// Restores the terminal if a guard is active; async-signal-safe. For fatal-error paths that skip
// destructors.
void RestoreTerminalFromSignal();

}  // namespace crosvm::chardev

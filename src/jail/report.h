// The last words of a confined process: why it dies. Handlers of SIGSYS (a denied system call) and
// of the crash signals that write to standard error and to a pipe that the VMM reads after the
// death.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "jail/filter.h"
#include "sys/fd.h"

namespace crosvm::jail {

// The VMM's side of the pipe.
class LastWords {
 public:
  struct Ends;
  static Result<Ends> Create();

  LastWords() = default;
  // What the process wrote; call it once the process is dead, or it may be half a text. Never
  // blocks. At most 16 KiB, and control characters replaced: the process may have been taken over
  // and writes what it likes.
  std::string Read() const;

 private:
  sys::UniqueFd fd_;
};
struct LastWords::Ends {
  LastWords reader;
  sys::UniqueFd writer;  // for ReportOptions, in the device process
};

struct ReportOptions {
  std::string_view label;   // "block[0]"; at most 31 bytes are kept
  std::string_view source;  // the policy that denies, Filter::source
  sys::UniqueFd words;      // may be invalid; kept open for good
  // Between the report and the death, in the handler; null: nothing. Async-signal-safe; a call that
  // the policy of the thread denies ends the process at once.
  void (*before_death)() = nullptr;
};

// Installs the handlers, once per process, on its main thread, before InstallFilter(): it looks at
// the loaded programs and allocates an alternate stack for that thread. The handlers only need
// write, rt_sigprocmask, prctl(PR_GET_NAME), gettid and exit_group.
Status InstallReports(ReportOptions options);

// The policy that denies calls of this thread, where it is another; a literal.
void SetThreadReportSource(std::string_view source);

// For --seccomp-log-failures: denied calls are reported, once for each call, and made nonetheless.
// `code` with an exception for the one instruction that makes them; valid in this process alone,
// after InstallReports(). Calls of a foreign architecture stay denied.
std::vector<sock_filter> LogInsteadOfDeny(std::span<const sock_filter> code);

// The rule that allows the call with these arguments: "openat: 1", "socket: arg0 == 0x1".
std::string AllowingRule(uint32_t number, std::span<const uint64_t, 6> arguments);

}  // namespace crosvm::jail

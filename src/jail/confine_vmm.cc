#include "jail/confine_vmm.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "jail/confine.h"
#include "jail/report.h"

namespace crosvm::jail {
namespace {

Status Install(const Filter& filter, bool log_denied_calls, FilterScope scope) {
  if (filter.code.empty()) return {};
  if (!log_denied_calls) return InstallFilter(filter.code, scope);
  return InstallFilter(LogInsteadOfDeny(filter.code), scope);
}

// Device processes have a process namespace of their own; the VMM has not, and no policy knows its
// id beforehand.
Status LimitSignalsToOwnThreads() {
  const sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_tgkill, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),  // little-endian
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(getpid()), 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  return InstallFilter(code, FilterScope::kProcess);
}

}  // namespace

Status ConfineVmm(const ConfineVmmOptions& options) {
  TRY(InstallReports({.label = "vmm", .source = options.filter.source, .words = sys::UniqueFd()}));
  TRY(DropCapabilities(options.keep_capabilities));
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return FailErrno("no_new_privs");
  if (!options.filter.code.empty()) TRY(LimitSignalsToOwnThreads());
  return Install(options.filter, options.log_denied_calls, FilterScope::kProcess);
}

Status ConfineVcpuThread(const Filter& filter, bool log_denied_calls) {
  // The sources of built-in policies are literals, and so is that of an override.
  SetThreadReportSource(filter.source.data());
  return Install(filter, log_denied_calls, FilterScope::kThread);
}

}  // namespace crosvm::jail

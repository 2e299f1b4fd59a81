#include "jail/confine_vmm.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "base/log.h"
#include "jail/confine.h"
#include "jail/landlock.h"
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

// The layers of a thread.
Result<Layers> RestrictThread(std::span<const sys::UniqueFd> removable_below) {
  Layers in_force;
  TRY(DropCapabilities({}));
  in_force.Add(Layer::kCapabilities);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return FailErrno("no_new_privs");
  in_force.Add(Layer::kNoNewPrivs);
  // Not demanded, as older kernels have none. Signals are for its children, the device processes.
  const Status landlock =
      RestrictByLandlock({.deny_signals = false, .removable_below = removable_below});
  if (landlock.has_value()) {
    in_force.Add(Layer::kLandlock);
  } else {
    LOG_DEBUG("no Landlock: {}", landlock.error().ToString());
  }
  return in_force;
}

}  // namespace

Result<Layers> ConfineVmm(const ConfineVmmOptions& options) {
  TRY(InstallReports({.label = "vmm",
                      .source = options.filter.source,
                      .words = sys::UniqueFd(),
                      .before_death = options.before_death}));
  Layers in_force = TRY(RestrictThread(options.removable_below));
  if (!options.filter.code.empty()) {
    TRY(LimitSignalsToOwnThreads());
    TRY(Install(options.filter, options.log_denied_calls, FilterScope::kProcess));
    in_force.Add(Layer::kSeccomp);
  }
  return in_force;
}

Status ConfineVmmThread(std::span<const sys::UniqueFd> removable_below) {
  TRY(RestrictThread(removable_below));
  return {};
}

Status ConfineVcpuThread(const Filter& filter, bool log_denied_calls) {
  // The sources of built-in policies are literals, and so is that of an override.
  SetThreadReportSource(filter.source);
  return Install(filter, log_denied_calls, FilterScope::kThread);
}

}  // namespace crosvm::jail

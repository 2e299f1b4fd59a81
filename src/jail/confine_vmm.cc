#include "jail/confine_vmm.h"

#include <sys/prctl.h>

#include "jail/confine.h"
#include "jail/report.h"

namespace crosvm::jail {
namespace {

Status Install(const Filter& filter, bool log_denied_calls, FilterScope scope) {
  if (filter.code.empty()) return {};
  if (!log_denied_calls) return InstallFilter(filter.code, scope);
  return InstallFilter(LogInsteadOfDeny(filter.code), scope);
}

}  // namespace

Status ConfineVmm(const ConfineVmmOptions& options) {
  TRY(InstallReports({.label = "vmm", .source = options.filter.source, .words = sys::UniqueFd()}));
  TRY(DropCapabilities(options.keep_capabilities));
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return FailErrno("no_new_privs");
  return Install(options.filter, options.log_denied_calls, FilterScope::kProcess);
}

Status ConfineVcpuThread(const Filter& filter, bool log_denied_calls) {
  // The sources of built-in policies are literals, and so is that of an override.
  SetThreadReportSource(filter.source.data());
  return Install(filter, log_denied_calls, FilterScope::kThread);
}

}  // namespace crosvm::jail

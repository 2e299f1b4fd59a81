// How the VMM confines itself once the VM is built and before the first vCPU runs. Called by vm/ on
// the main thread, and by each vCPU thread for its narrower filter.
#pragma once

#include <vector>

#include "base/result.h"
#include "jail/filter.h"

namespace crosvm::jail {

struct ConfineVmmOptions {
  Filter filter;  // policies::kVmMain
  // Stay. Under root the VMM needs CAP_SETUID and CAP_SETGID to map the ids of a device that it
  // starts again.
  std::vector<int> keep_capabilities;
  bool log_denied_calls = false;  // --seccomp-log-failures
};

// Drops capabilities for good, sets no_new_privs, reports denied calls and crashes on standard
// error, and filters the system calls of every thread. Threads started later inherit all of it, and
// so do device processes: the filter of the VMM has to allow what they need before they have their
// own. Whatever the filter allows, tgkill() reaches the process' own threads only (EPERM).
Status ConfineVmm(const ConfineVmmOptions& options);

// The narrower filter of the calling vCPU thread (policies::kVmVcpu), after ConfineVmm().
Status ConfineVcpuThread(const Filter& filter, bool log_denied_calls);

}  // namespace crosvm::jail

// How the VMM confines itself once the VM is built and before the first vCPU runs. Called by vm/ on
// the main thread, and by each vCPU thread for its part of it.
#pragma once

#include <span>

#include "base/result.h"
#include "jail/filter.h"
#include "jail/layers.h"
#include "sys/fd.h"

namespace crosvm::jail {

struct ConfineVmmOptions {
  Filter filter;                     // policies::kVmMain
  bool log_denied_calls = false;     // --seccomp-log-failures
  void (*before_death)() = nullptr;  // ReportOptions
  // The folders of what is removed at the end.
  std::span<const sys::UniqueFd> removable_below = {};
};

// Drops capabilities for good, sets no_new_privs, denies paths, TCP and abstract sockets by
// Landlock where the kernel has it, reports denied calls and crashes on standard error, and filters
// the system calls of every thread. Threads started later inherit all of it; device processes do
// not, as the spawner starts them, which is a process of before (spawner.h). Whatever the filter
// allows, tgkill() reaches the process' own threads only (EPERM). The layers that are in force.
Result<Layers> ConfineVmm(const ConfineVmmOptions& options);

// What of it each thread has for itself, for those that were started before: all but the filter.
Status ConfineVmmThread(std::span<const sys::UniqueFd> removable_below);

// The narrower filter of the calling vCPU thread (policies::kVmVcpu), after ConfineVmm().
Status ConfineVcpuThread(const Filter& filter, bool log_denied_calls);

}  // namespace crosvm::jail

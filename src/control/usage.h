// What `crosvm ps` adds to a VM's answer from /proc: the VMM itself can open no file any more.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "control/messages.h"

namespace crosvm::control {

// Empty when the process is gone, or not the caller's to look at.
std::optional<ProcessUsage> ReadUsage(pid_t pid);

// A line for each process under a heading.
std::string ProcessTable(const ProcessList& list);

}  // namespace crosvm::control

// Starts a device process: a fresh execution of this program that inherits nothing but what is passed.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"
#include "sys/process.h"

namespace crosvm::device_host {

// Executes /proc/self/exe with `argv` (argv[0] included). The descriptors arrive as 3, 4, …; standard input is /dev/null,
// standard output and error are shared; everything else is closed. Safe while other threads run.
Result<sys::PidFd> SpawnSelf(std::span<const std::string> argv,
                             std::span<const sys::BorrowedFd> inherit);

}  // namespace crosvm::device_host

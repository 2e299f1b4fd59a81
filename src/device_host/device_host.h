// Where the backend of a device runs: the entries that the command line needs.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "devices/module/module.h"

namespace crosvm::device_host {

// `crosvm device NAME --socket-path S OPTION`: serves the device to a foreign vhost-user front-end
// until it disconnects. Returns the exit status of the process. A device of another program is that
// program's to run: it takes this process over.
Result<int> RunStandalone(const devices::DeviceModule& module, const std::string& socket_path,
                          std::string_view option);

// main() of the jailed child that the VMM spawns: one of `modules`, which are those of the program.
// Returns the exit status of the process.
int ChildMain(std::span<const devices::DeviceModule* const> modules);

// main() of the process that starts device processes for the VMM (jail/spawner.h).
int SpawnerMain(int argc, char** argv);

}  // namespace crosvm::device_host

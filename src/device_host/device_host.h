// Where the backend of a device runs: the entries that the command line needs.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace crosvm::device_host {

// `crosvm device NAME --socket-path S OPTION`: serves the device to a foreign vhost-user front-end
// until it disconnects. Returns the exit status of the process. kNotFound names an unknown device.
Result<int> RunStandalone(std::string_view name, const std::string& socket_path,
                          std::string_view option);

// main() of the jailed child that the VMM spawns. Returns the exit status of the process.
int ChildMain(int argc, char** argv);

}  // namespace crosvm::device_host

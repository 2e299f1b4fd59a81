// The console device's entry in the list of modules.
#pragma once

#include "devices/module/module.h"

namespace crosvm::devices::console {

extern const DeviceModule kConsoleModule;

}  // namespace crosvm::devices::console

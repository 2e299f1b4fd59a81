// The shared directory in the list of modules.
#pragma once

#include "devices/module/module.h"

namespace crosvm::devices::fs {

extern const DeviceModule kFsModule;

}  // namespace crosvm::devices::fs

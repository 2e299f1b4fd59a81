// The block device's entry in the list of modules.
#pragma once

#include "devices/module/module.h"

namespace crosvm::devices::block {

extern const DeviceModule kBlockModule;

}  // namespace crosvm::devices::block

// The 9p device's entry in the list of modules.
#pragma once

#include "devices/module/module.h"

namespace crosvm::devices::p9 {

extern const DeviceModule kP9Module;

}  // namespace crosvm::devices::p9

// The entropy device's entry in the list of modules.
#pragma once

#include "devices/module/module.h"

namespace crosvm::devices::rng {

extern const DeviceModule kRngModule;

}  // namespace crosvm::devices::rng

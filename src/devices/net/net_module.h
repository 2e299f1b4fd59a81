// The network device's entry in the list of modules.
#pragma once

#include "devices/module/module.h"

namespace crosvm::devices::net {

extern const DeviceModule kNetModule;

}  // namespace crosvm::devices::net

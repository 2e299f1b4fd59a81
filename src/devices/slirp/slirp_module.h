// The user-mode network's entry in the list of the program that serves it (crosvm-slirp).
#pragma once

#include "devices/module/module.h"

namespace crosvm::devices::slirp {

extern const DeviceModule kSlirpModule;

}  // namespace crosvm::devices::slirp

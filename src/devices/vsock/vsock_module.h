// The virtual socket device's entry in the list of modules.
#pragma once

#include "devices/module/module.h"

namespace crosvm::devices::vsock {

extern const DeviceModule kVsockModule;

// The listening socket's name in the folder of --vsock path=….
inline constexpr const char* kListenerName = "connect";

}  // namespace crosvm::devices::vsock

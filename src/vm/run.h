// Runs one VM from its configuration to its end. Called by the command line on the main thread,
// once a process.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "config/vm_config.h"

namespace crosvm::vm {

// Why a VM ended.
enum class ExitReason : uint8_t {
  kStopped,   // the control socket's Exit, or a signal that asks to end
  kPowerOff,  // the guest powered off
  kReset,     // the guest asked for a reset, or ended in a triple fault
  kCrash,     // a virtual CPU could not go on, or a device failed under --on-device-crash=stop
  kPanic,     // the guest reported a panic (pvpanic)
  kWatchdog,  // a watchdog device expired
};

// `config` has passed config::Validate. Errors are of setting up and running the VM, not of the
// guest.
Result<ExitReason> RunVm(const config::VmConfig& config);

}  // namespace crosvm::vm

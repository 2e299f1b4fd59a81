// Which devices a configuration asks for, in the order that defines their PCI slots and guest
// names. Pure.
#pragma once

#include <string>
#include <vector>

#include "config/vm_config.h"

namespace crosvm::vm {

struct DeviceRequest {
  std::string module;  // DeviceModule::name; for a foreign process the kind alone
  std::string option;  // what the module's Prepare takes; for a foreign process its tag
  std::string socket;  // a foreign process' socket; empty: ours
};

// Consoles, disks, foreign disks, entropy, …: the reference's order.
std::vector<DeviceRequest> DevicesOf(const config::VmConfig& config);

}  // namespace crosvm::vm

// The one list of device modules.
#include <algorithm>
#include <array>

#include "devices/block/block_module.h"
#include "devices/console/console_module.h"
#include "devices/fs/fs_module.h"
#include "devices/module/module.h"
#include "devices/net/net_module.h"
#include "devices/net/net_user.h"
#include "devices/p9/p9_module.h"
#include "devices/rng/rng_module.h"
#include "devices/vsock/vsock_module.h"

namespace crosvm::devices {

std::span<const DeviceModule* const> AllModules() {
  static constexpr auto kModules = std::to_array<const DeviceModule*>({
      &block::kBlockModule,
      &console::kConsoleModule,
      &fs::kFsModule,
      &net::kNetModule,
      &net::kNetUserModule,
      &p9::kP9Module,
      &rng::kRngModule,
      &vsock::kVsockModule,
  });
  return kModules;
}

const DeviceModule* FindModule(std::string_view name) {
  const std::span<const DeviceModule* const> modules = AllModules();
  const auto found = std::find_if(modules.begin(), modules.end(),
                                  [&](const DeviceModule* module) { return module->name == name; });
  return found == modules.end() ? nullptr : *found;
}

}  // namespace crosvm::devices

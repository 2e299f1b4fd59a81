// Devices whose rings the host's kernel works on: vhost-net and vhost-vsock. Opened with the user's
// rights, before the VMM confines itself.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "config/vm_config.h"
#include "virtio/backend.h"

namespace crosvm::vm {

inline constexpr std::string_view kKernelNet = "vhost-net";
inline constexpr std::string_view kKernelVsock = "vhost-vsock";

inline bool IsKernelDevice(std::string_view kind) {
  return kind == kKernelNet || kind == kKernelVsock;
}

// `label` is "vhost-net[0]"; `option` has the form of --net or --vsock.
Result<std::shared_ptr<virtio::Backend>> MakeKernelDevice(std::string_view kind, std::string label,
                                                          std::string_view option,
                                                          const config::VmConfig& config);

}  // namespace crosvm::vm

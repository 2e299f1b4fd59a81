// Devices that a foreign process serves (`--vhost-user-blk` and its siblings): what the protocol
// does not tell about them. Pure.
#pragma once

#include <string_view>

#include "base/result.h"
#include "vhost_user/frontend.h"

namespace crosvm::vm {

// Without the name. `tag`: of a shared directory. Queues that the back-end does not have are
// dropped by the front-end. kUnsupported for a kind that this version does not know.
Result<vhost_user::FrontendOptions> ForeignDevice(std::string_view kind, std::string_view tag = {});

}  // namespace crosvm::vm

// What a policy says of one call, straight from its rules: the reference that tests hold the
// compiler against.
#pragma once

#include <linux/seccomp.h>

#include "jail/policy.h"

namespace crosvm::jail {

// The value that the compiled filter returns (SECCOMP_RET_*, filter.h).
uint32_t EvaluatePolicy(const Policy& policy, const seccomp_data& call);

}  // namespace crosvm::jail

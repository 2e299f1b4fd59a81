// From a policy to the classic BPF program that seccomp(2) runs. Used at build time by
// crosvm_policy_compiler, and in the VMM for --seccomp-policy-dir.
#pragma once

#include <linux/filter.h>

#include <vector>

#include "base/result.h"
#include "jail/policy.h"

namespace crosvm::jail {

// The program refuses foreign architectures and x86's x32 numbering, finds the rule of a call by a
// search tree in which calls of a high frequency are near the root, and tests all 64 bits of
// arguments. Denied calls return kReturnDenied (filter.h). Fails only when the result is longer
// than the kernel takes.
Result<std::vector<sock_filter>> CompilePolicy(const Policy& policy);

}  // namespace crosvm::jail

// Landlock: the kernel's own denial of paths, TCP ports, abstract sockets and signals, where it has
// it. A wall behind the empty root and the namespaces.
#pragma once

#include <span>

#include "base/result.h"
#include "sys/fd.h"

namespace crosvm::jail {

// The version of the kernel's interface; 0 where it has none or it is off.
int LandlockAbi();

struct LandlockOptions {
  // The process has no use for files by name at all.
  bool deny_paths = true;
  // Nor for a network.
  bool deny_network = true;
  // Nor for processes outside, its children included.
  bool deny_signals = true;
  // With deny_paths: files below these folders may be removed, which is all.
  std::span<const sys::UniqueFd> removable_below = {};
};
// For the calling thread and those it starts, for good; needs no_new_privs. kUnsupported without
// Landlock. Descriptors that are open keep their rights.
Status RestrictByLandlock(const LandlockOptions& options);

}  // namespace crosvm::jail

// What a device process does to itself before it makes its device: an empty root, no capabilities,
// few resources. Called once, on the only thread, after Spawn() has put the process into its
// namespaces.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "jail/layers.h"
#include "sys/fd.h"

namespace crosvm::jail {

struct ConfineOptions {
  Layers namespaces;           // those that Spawn() made
  bool root_is_empty = false;  // already, as the spawner's is
  // The directory that becomes the root; empty: an empty read-only tmpfs. It is found again by its
  // path, as a descriptor of another mount namespace cannot be mounted, and has to be the directory
  // that `root` was opened on.
  std::string root_path;
  sys::BorrowedFd root;
  bool root_writable = false;
  uint64_t max_open_files = 1024;
  // Capabilities that stay, in the process's own user namespace (CAP_*). Empty for all but shared
  // directories.
  std::vector<int> keep_capabilities;
  bool best_effort = false;
};

// The layers that are in force afterwards, options.namespaces included. Fails on the first layer
// that cannot be had, unless best_effort. Seccomp is not part of it: see InstallFilter().
Result<Layers> Confine(const ConfineOptions& options);

// Makes the caller's root an empty read-only tmpfs, in its own mount namespace, which loses all
// other mounts.
Status EnterEmptyRoot();

// The part of it that the VMM does to itself as well: every capability but `keep` is given up for
// good, bounding and ambient sets and secure bits included.
Status DropCapabilities(const std::vector<int>& keep);

}  // namespace crosvm::jail

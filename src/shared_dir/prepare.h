// What the VMM opens and decides for a device that serves a shared directory, with the user's
// rights. The device module turns it into its start message and its jail's needs; in the device
// process OpenShare() makes the share of it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "jail/spawn.h"
#include "shared_dir/share.h"
#include "sys/fd.h"

namespace crosvm::shared_dir {

struct PrepareOptions {
  std::string path;
  std::string uidmap;  // as ParseIdMap() takes; empty: the default
  std::string gidmap;
  uint32_t max_open = 0;  // files the guest may have open; 0: as many as the limits allow
};

struct PreparedShare {
  sys::UniqueFd root;     // O_PATH
  std::string root_path;  // absolute, without links
  sys::UniqueFd state;    // Share::MakeState(max_nodes)
  uint32_t max_nodes = 0;
  uint32_t max_open = 0;
  uint32_t max_descriptors = 0;  // for nodes, beside open files
  uint64_t max_open_files = 0;   // RLIMIT_NOFILE of the device process
  std::vector<jail::IdMap> uid_map;
  std::vector<jail::IdMap> gid_map;
  std::vector<int> keep_capabilities;
};

// The error names the path or the option.
Result<PreparedShare> PrepareShare(const PrepareOptions& options);

// `root` and `state` are those of PreparedShare. `self_fds`: jail::OpenSelfFds() from before the
// jail, or invalid where there is none.
Result<std::unique_ptr<Share>> OpenShare(sys::UniqueFd root, sys::BorrowedFd self_fds,
                                         sys::BorrowedFd state, const ShareOptions& options);

// Threads for a share when the user names no number.
uint32_t DefaultThreads();

}  // namespace crosvm::shared_dir

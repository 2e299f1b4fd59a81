// Starts a device process: a fresh execution of this program in new namespaces that inherits
// nothing but what is passed. Used by the VMM, on any thread, also while others run.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "jail/layers.h"
#include "sys/fd.h"
#include "sys/process.h"

namespace crosvm::jail {

// One line of /proc/PID/uid_map or gid_map (user_namespaces(7)).
struct IdMap {
  uint32_t inside = 0;
  uint32_t outside = 0;
  uint32_t count = 1;
};

struct SpawnOptions {
  std::vector<std::string> argv;         // argv[0] included; /proc/self/exe is executed
  std::vector<sys::BorrowedFd> inherit;  // arrive as 3, 4, …
  // The namespaces to make; the other layers are Confine()'s.
  Layers namespaces = Layers::All();
  // Empty: the device is one unprivileged id that maps to nobody (root) or to the caller (an
  // ordinary user).
  std::vector<IdMap> uid_map;
  std::vector<IdMap> gid_map;
  // A namespace that the host forbids is left out instead of failing.
  bool best_effort = false;
};

struct Spawned {
  sys::PidFd process;
  Layers namespaces;  // those made
};

// The child's standard input is /dev/null, output and error are shared, signals unblocked,
// everything else closed. An error names the layer that the host refuses and the setting that
// allows it.
Result<Spawned> Spawn(const SpawnOptions& options);

// The user that devices run as under root: "nobody" of every Linux.
inline constexpr uint32_t kNobody = 65534;

}  // namespace crosvm::jail

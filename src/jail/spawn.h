// Starts a device process: a fresh execution of a program in new namespaces that inherits nothing
// but what is passed. Used by the spawner (spawner.h), and by the VMM where it has none; on any
// thread, also while others run.
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
  bool operator==(const IdMap&) const = default;
};

struct SpawnOptions {
  // argv[0] included.
  std::vector<std::string> argv;
  // The program to execute, opened with O_PATH; invalid: this program.
  sys::BorrowedFd executable;
  std::vector<sys::BorrowedFd> inherit;  // arrive as 3, 4, …
  // The namespaces to make; the other layers are Confine()'s.
  Layers namespaces = Layers::All();
  // Empty: the device is one unprivileged id that maps to nobody (root) or to the caller (an
  // ordinary user).
  std::vector<IdMap> uid_map;
  std::vector<IdMap> gid_map;
  // A namespace that the host forbids is left out instead of failing.
  bool best_effort = false;
  // The process starts with the host's tree as its root, because it makes a part of it its own, or
  // is a program with shared libraries. Others may be started in the spawner's empty root.
  bool host_root = false;
};

struct Spawned {
  sys::PidFd process;
  // Those made; with kPivotRoot when the root is the spawner's empty one already.
  Layers namespaces;
};

// The child's standard input and output are /dev/null, its standard error is ours, signals are
// unblocked, everything else is closed. Its environment is empty but for the options of sanitizers.
// An error names the layer that the host refuses and the setting that allows it.
Result<Spawned> Spawn(const SpawnOptions& options);

// What Spawn() uses of the process that it runs in. The spawner opens it before its root is empty.
struct SpawnContext {
  static Result<SpawnContext> Open();

  sys::UniqueFd proc;     // the folder /proc
  sys::UniqueFd null_fd;  // /dev/null
  sys::UniqueFd program;  // this program
  // The new process becomes a child of the caller's parent.
  bool as_sibling = false;
  bool root_is_empty = false;
};
Result<Spawned> Spawn(const SpawnOptions& options, const SpawnContext& context);

// The user that devices run as under root: "nobody" of every Linux.
inline constexpr uint32_t kNobody = 65534;

}  // namespace crosvm::jail

// The processes that start the device processes of a VM: one with an empty root for most, one with
// the host's tree for those that need it (jail/spawner.h). In the VMM.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "jail/spawner.h"

namespace crosvm::device_host {

// Not thread-safe. Each is started when it is first needed, which must be before Seal().
class Spawners {
 public:
  struct Options {
    bool best_effort = false;
    std::string entry = "--spawner-process";  // as jail::SpawnerOptions::entry
  };
  explicit Spawners(Options options) : options_(std::move(options)) {}

  Result<jail::Spawned> Spawn(const jail::SpawnOptions& options);
  // See jail::Spawner.
  Status Seal();
  // That the kernel killed `pid`, an unreaped child, for want of memory, if it did; else empty.
  std::string OutOfMemory(pid_t pid);

  std::vector<pid_t> pids() const;

 private:
  const Options options_;
  jail::Spawner empty_root_;
  jail::Spawner host_root_;
  bool sealed_ = false;
};

}  // namespace crosvm::device_host

// The process that starts the device processes of a VM, and that the VMM starts before it gives up
// the rights for it (ADR 6). Between the two goes one request and one answer at a time over a
// socket; the processes that it starts are children of the VMM.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "jail/spawn.h"
#include "sys/process.h"
#include "sys/socket.h"

namespace crosvm::jail {

struct SpawnerOptions {
  // The spawner's own root is empty, so that making a mount namespace for a device does not copy
  // the host's mounts. Only for programs without shared libraries.
  bool empty_root = false;
  bool best_effort = false;
  // The option by which main() finds SpawnerMain(); tests have another.
  std::string entry = "--spawner-process";
};

// The VMM's side. Not thread-safe.
class Spawner {
 public:
  static Result<Spawner> Start(const SpawnerOptions& options);

  Spawner() = default;
  Spawner(Spawner&&) noexcept = default;
  Spawner& operator=(Spawner&& other) noexcept;
  ~Spawner();  // ends the process

  bool valid() const { return process_.valid(); }
  pid_t pid() const { return process_.pid(); }
  // As jail::Spawn().
  Result<Spawned> Spawn(const SpawnOptions& options);
  // From now on it only starts what it has started before: the same programs and entry options with
  // the same namespaces and id maps. For a VMM that is about to run a guest.
  Status Seal();
  // Whether the kernel has killed a process for want of memory since the last call; `pid` has ended
  // and is not reaped. Says so, with the cgroup whose limit it was; "perhaps" where only the host's
  // count of such killings is to be had. Empty: no.
  Result<std::string> OutOfMemory(pid_t pid);

 private:
  Result<std::vector<uint8_t>> Call(std::span<const uint8_t> request,
                                    std::span<const sys::BorrowedFd> fds,
                                    std::vector<sys::UniqueFd>* received);

  sys::UnixSocket socket_;
  sys::PidFd process_;
};

// main() of the spawner's process, which inherits its socket as descriptor 3.
int SpawnerMain(int argc, char** argv);

// A request as it travels. Exposed for tests.
struct SpawnRequest {
  enum class Kind : uint32_t { kSpawn = 1, kSeal = 2, kOutOfMemory = 3 };
  Kind kind = Kind::kSpawn;
  pid_t pid = 0;       // kOutOfMemory
  SpawnOptions spawn;  // kSpawn; without descriptors
  uint32_t inherited = 0;
  bool has_executable = false;
};
std::vector<uint8_t> EncodeSpawnRequest(const SpawnRequest& request);
// kProtocol for anything that EncodeSpawnRequest() does not make.
Result<SpawnRequest> DecodeSpawnRequest(std::span<const uint8_t> bytes);

}  // namespace crosvm::jail

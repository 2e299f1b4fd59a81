// The process that starts the device processes of a VM, and that the VMM starts before it gives up
// the rights for it (ADR 6). Between the two goes one request and one answer at a time over a
// socket; the processes that it starts are children of the VMM.
#pragma once

#include <chrono>
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
  // How long it may take over one request. A later answer is skipped, and what it started is ended.
  std::chrono::milliseconds answer_timeout{20000};
  // The option by which main() finds SpawnerMain(); tests have another.
  std::string entry = "--spawner-process";
};

// A request as it travels. Exposed for tests.
struct SpawnRequest {
  enum class Kind : uint32_t { kSpawn = 1, kSeal = 2, kOutOfMemory = 3 };
  Kind kind = Kind::kSpawn;
  uint32_t number = 0;  // comes back in the answer
  pid_t pid = 0;        // kOutOfMemory
  SpawnOptions spawn;   // kSpawn; without descriptors
  uint32_t inherited = 0;
  bool has_executable = false;
};
// What comes back. The pidfd of a process that was started comes with it.
struct SpawnAnswer {
  uint32_t number = 0;
  pid_t pid = 0;  // kSpawn; 0: not started, and `text` says why
  Layers namespaces;
  std::string text;  // of kOutOfMemory otherwise
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
  // From now on it only starts what it has started before: the same program files, which it keeps
  // open itself, and entry options with the same namespaces and id maps. For a VMM that is about to
  // run a guest.
  Status Seal();
  // Whether the kernel has killed a process for want of memory since the last call; `pid` has ended
  // and is not reaped. Says so, with the cgroup whose limit it was; "perhaps" where only the host's
  // count of such killings is to be had. Empty: no.
  Result<std::string> OutOfMemory(pid_t pid);

 private:
  // With the process that it started, if it did.
  struct Answer {
    SpawnAnswer answer;
    sys::PidFd process;
  };
  Result<Answer> Call(SpawnRequest request, std::span<const sys::BorrowedFd> fds);
  Result<Answer> ReceiveAnswer();

  sys::UnixSocket socket_;
  sys::PidFd process_;
  uint32_t last_number_ = 0;
};

// main() of the spawner's process, which inherits its socket as descriptor 3.
int SpawnerMain(int argc, char** argv);

std::vector<uint8_t> EncodeSpawnRequest(const SpawnRequest& request);
// kProtocol for anything that EncodeSpawnRequest() does not make.
Result<SpawnRequest> DecodeSpawnRequest(std::span<const uint8_t> bytes);
std::vector<uint8_t> EncodeSpawnAnswer(const SpawnAnswer& answer);
Result<SpawnAnswer> DecodeSpawnAnswer(std::span<const uint8_t> bytes);

}  // namespace crosvm::jail

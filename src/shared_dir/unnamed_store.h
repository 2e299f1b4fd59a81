// Keeps open files that have no name any more over the death of this process. They travel, as
// descriptors, in messages that lie in a socket pair: both its ends are held by the VMM, so the
// messages outlive the process, and the VMM never looks at them. Bounded by the socket's buffer:
// what does not fit is not kept. Safe from every thread.
//
// The process may die between any two system calls. So a message is only taken out of the socket
// when it is no longer wanted, or when a copy of it lies there already; of a file that is there
// twice for that reason a successor drops one.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "base/mutex.h"
#include "base/result.h"
#include "sys/fd.h"
#include "sys/socket.h"

namespace crosvm::shared_dir {

class UnnamedStore {
 public:
  // Invalid sockets make a store that keeps nothing.
  UnnamedStore(sys::UnixSocket in, sys::UnixSocket out);

  static Result<std::pair<sys::UnixSocket, sys::UnixSocket>> MakeSockets();

  // Before all else: what a predecessor has left. It stays kept, until Remove().
  std::map<uint64_t, sys::UniqueFd> Recover();
  // False when there is no room.
  bool Put(uint64_t handle, sys::BorrowedFd file);
  // Drops what Put() kept. Costs a pass over all that is kept, which is little.
  void Remove(uint64_t handle);
  void Clear();

 private:
  static constexpr size_t kMaxKept = 128;
  struct Kept {
    uint64_t handle = 0;
    sys::UniqueFd file;  // invalid: the message is not one of ours
  };

  // The message that is next to be looked at, which stays.
  Result<Kept> Peek() CROSVM_REQUIRES(mutex_);
  bool Send(uint64_t handle, sys::BorrowedFd file) CROSVM_REQUIRES(mutex_);
  // The first message becomes the last. False: it could not be copied, and is the first still.
  bool Rotate(const Kept& first) CROSVM_REQUIRES(mutex_);

  Mutex mutex_;
  sys::UnixSocket in_ CROSVM_GUARDED_BY(mutex_);
  sys::UnixSocket out_ CROSVM_GUARDED_BY(mutex_);
  size_t kept_ CROSVM_GUARDED_BY(mutex_) = 0;
};

}  // namespace crosvm::shared_dir

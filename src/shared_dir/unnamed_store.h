// Keeps open files that have no name any more over the death of this process. They travel, as
// descriptors, in messages that lie in a socket pair: both its ends are held by the VMM, so the
// messages outlive the process, and the VMM never looks at them. Bounded by the socket's buffer:
// what does not fit is not kept. Safe from every thread.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

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

  // False when there is no room.
  bool Put(uint64_t handle, sys::BorrowedFd file);
  // Drops what Put() kept. Costs a pass over all that is kept, which is little.
  void Remove(uint64_t handle);
  // Everything that a predecessor has left, which is then no longer kept.
  std::map<uint64_t, sys::UniqueFd> TakeAll();

 private:
  static constexpr size_t kMaxKept = 128;
  std::map<uint64_t, sys::UniqueFd> Drain() CROSVM_REQUIRES(mutex_);
  bool Send(uint64_t handle, sys::BorrowedFd file) CROSVM_REQUIRES(mutex_);

  Mutex mutex_;
  sys::UnixSocket in_ CROSVM_GUARDED_BY(mutex_);
  sys::UnixSocket out_ CROSVM_GUARDED_BY(mutex_);
  size_t kept_ CROSVM_GUARDED_BY(mutex_) = 0;
};

}  // namespace crosvm::shared_dir

// Locks of the guest's processes (fcntl(2), flock(2)), as Tlock and Tgetlock want them: who has
// which bytes of which file. Among its own processes a client's kernel has decided before it asks,
// so only locks of different clients exclude each other here. Towards the host's processes the
// table holds the union of all as open-file-description locks on one descriptor a file, so that
// both sides see each other's.
//
// A lock goes with its process or with its fid, whoever comes first: flock(2) is asked for by one
// process and may be given up by another that has the file open, and the protocol does not tell it
// from fcntl(2).
//
// Safe from every thread. Does not outlive the process: after a restart of the device the guest's
// processes still exclude each other (their kernel keeps its own table), the host's processes not.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "devices/p9/fid.h"
#include "shared_dir/share.h"

namespace crosvm::devices::p9 {

struct LockOwner {
  // Bytes of a client's name; Linux gives its host name, which has 64.
  static constexpr size_t kMaxClient = 255;

  uint32_t process = 0;
  std::string client;

  bool operator==(const LockOwner&) const = default;
};

// Bytes [start, end]; both are at most INT64_MAX, which stands for "to the end of the file".
struct LockRange {
  uint64_t start = 0;
  uint64_t end = INT64_MAX;
};

// From the wire: a length of 0 is "to the end". EINVAL or EOVERFLOW as fcntl(2) has them.
OrErrno<LockRange> MakeLockRange(uint64_t start, uint64_t length);

struct HeldLock {
  LockOwner owner;
  LockRange range;
  bool exclusive = false;
  const Fid* fid = nullptr;  // who is clunked takes the lock along
};

class LockTable {
 public:
  // Of all files together; the guest chooses how many it makes.
  static constexpr size_t kMaxLocks = 65536;

  LockTable(shared_dir::Share& share, Budget& budget) : share_(share), budget_(budget) {}

  // False: somebody else has a lock in the way. ENOLCK: too many, or too many open files.
  OrErrno<bool> Lock(const Fid& fid, const LockOwner& owner, LockRange range, bool exclusive);
  void Unlock(const Fid& fid, const LockOwner& owner, LockRange range);
  // What stands in the way of such a lock, if anything does. ENOLCK: too many open files.
  OrErrno<std::optional<HeldLock>> Conflict(const Fid& fid, const LockOwner& owner, LockRange range,
                                            bool exclusive);
  // Everything that was locked through the fid.
  void Release(const Fid& fid);
  void Clear();

 private:
  struct File {
    explicit File(Budget::Lease counted) : lease(std::move(counted)) {}

    Budget::Lease lease;
    sys::UniqueFd host;  // with the host's locks; invalid where it could not be opened
    std::vector<HeldLock> locks;
  };

  OrErrno<File*> FileOf(NodeId node) CROSVM_REQUIRES(mutex_);
  void Cut(File& file, const Fid& fid, const LockOwner& owner, LockRange range)
      CROSVM_REQUIRES(mutex_);
  static void UnlockHost(const File& file, LockRange range);
  void DropIfEmpty(NodeId node) CROSVM_REQUIRES(mutex_);

  shared_dir::Share& share_;
  Budget& budget_;
  Mutex mutex_;
  std::unordered_map<NodeId, File> files_ CROSVM_GUARDED_BY(mutex_);
  size_t count_ CROSVM_GUARDED_BY(mutex_) = 0;
};

}  // namespace crosvm::devices::p9

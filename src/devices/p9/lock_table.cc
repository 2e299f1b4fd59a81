#include "devices/p9/lock_table.h"

#include <fcntl.h>

#include <algorithm>

namespace crosvm::devices::p9 {
namespace {

bool Overlap(const LockRange& a, const LockRange& b) {
  return a.start <= b.end && b.start <= a.end;
}

struct flock HostLock(short type, LockRange range) {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(range.start);
  lock.l_len = range.end == INT64_MAX ? 0 : static_cast<off_t>(range.end - range.start + 1);
  return lock;
}

const HeldLock* FindConflict(const std::vector<HeldLock>& locks, const LockOwner& owner,
                             LockRange range, bool exclusive) {
  for (const HeldLock& lock : locks) {
    if (lock.owner.client == owner.client || !Overlap(lock.range, range)) continue;
    if (exclusive || lock.exclusive) return &lock;
  }
  return nullptr;
}

}  // namespace

OrErrno<LockRange> MakeLockRange(uint64_t start, uint64_t length) {
  if (start > INT64_MAX) return Refuse(EINVAL);
  if (length == 0) return LockRange{.start = start, .end = INT64_MAX};
  if (length - 1 > INT64_MAX - start) return Refuse(EOVERFLOW);
  return LockRange{.start = start, .end = start + length - 1};
}

OrErrno<LockTable::File*> LockTable::FileOf(NodeId node) {
  if (const auto found = files_.find(node); found != files_.end()) return &found->second;
  OrErrno<Budget::Lease> lease = budget_.Lend();
  if (!lease.has_value()) return Refuse(ENOLCK);
  File& file = files_.try_emplace(node, std::move(*lease)).first->second;
  // A lock to write needs a descriptor to write, which a read-only file does not get.
  OrErrno<sys::UniqueFd> host = share_.Open(node, O_RDWR);
  if (!host.has_value()) host = share_.Open(node, O_RDONLY);
  if (host.has_value()) file.host = std::move(*host);
  return &file;
}

void LockTable::DropIfEmpty(NodeId node) {
  const auto found = files_.find(node);
  if (found != files_.end() && found->second.locks.empty()) files_.erase(found);
}

void LockTable::Cut(File& file, const Fid& fid, const LockOwner& owner, LockRange range) {
  std::vector<HeldLock> rest;
  count_ -= std::erase_if(file.locks, [&](const HeldLock& lock) {
    const bool same = lock.owner == owner || lock.fid == &fid;
    if (!same || !Overlap(lock.range, range)) return false;
    if (lock.range.start < range.start) {
      rest.push_back(lock);
      rest.back().range.end = range.start - 1;
    }
    if (lock.range.end > range.end) {
      rest.push_back(lock);
      rest.back().range.start = range.end + 1;
    }
    return true;
  });
  count_ += rest.size();
  file.locks.insert(file.locks.end(), rest.begin(), rest.end());
}

// What no lock covers any more.
void LockTable::UnlockHost(const File& file, LockRange range) {
  if (!file.host.valid()) return;
  std::vector<LockRange> covered;
  for (const HeldLock& lock : file.locks) {
    if (Overlap(lock.range, range)) covered.push_back(lock.range);
  }
  std::sort(covered.begin(), covered.end(),
            [](const LockRange& a, const LockRange& b) { return a.start < b.start; });
  uint64_t at = range.start;
  const auto free_until = [&](uint64_t end) {
    struct flock lock = HostLock(F_UNLCK, {.start = at, .end = end});
    // Giving up a lock cannot fail but for want of memory, and then the file's last lock mends it.
    (void)fcntl(file.host.get(), F_OFD_SETLK, &lock);
  };
  for (const LockRange& taken : covered) {
    if (taken.start > at) free_until(taken.start - 1);
    if (taken.end >= range.end) return;
    at = std::max(at, taken.end + 1);
  }
  free_until(range.end);
}

OrErrno<bool> LockTable::Lock(const Fid& fid, const LockOwner& owner, LockRange range,
                              bool exclusive) {
  const MutexLock lock(mutex_);
  // A cut may leave two pieces beside the new one.
  if (count_ + 3 > kMaxLocks) return Refuse(ENOLCK);
  File& file = *TRY(FileOf(fid.node()));
  if (FindConflict(file.locks, owner, range, exclusive) != nullptr) return false;
  if (file.host.valid()) {
    struct flock wanted = HostLock(exclusive ? F_WRLCK : F_RDLCK, range);
    if (fcntl(file.host.get(), F_OFD_SETLK, &wanted) != 0 && errno != EBADF) {
      const bool blocked = errno == EAGAIN || errno == EACCES;
      const int why = errno;
      DropIfEmpty(fid.node());
      if (blocked) return false;
      return Refuse(why);
    }
  }
  Cut(file, fid, owner, range);
  file.locks.push_back({.owner = owner, .range = range, .exclusive = exclusive, .fid = &fid});
  ++count_;
  return true;
}

void LockTable::Unlock(const Fid& fid, const LockOwner& owner, LockRange range) {
  const MutexLock lock(mutex_);
  const auto found = files_.find(fid.node());
  if (found == files_.end()) return;
  Cut(found->second, fid, owner, range);
  UnlockHost(found->second, range);
  DropIfEmpty(fid.node());
}

OrErrno<std::optional<HeldLock>> LockTable::Conflict(const Fid& fid, const LockOwner& owner,
                                                     LockRange range, bool exclusive) {
  const MutexLock lock(mutex_);
  File& file = *TRY(FileOf(fid.node()));
  std::optional<HeldLock> conflict;
  if (const HeldLock* const other = FindConflict(file.locks, owner, range, exclusive)) {
    conflict = *other;
  } else if (file.host.valid()) {
    struct flock wanted = HostLock(exclusive ? F_WRLCK : F_RDLCK, range);
    if (fcntl(file.host.get(), F_OFD_GETLK, &wanted) == 0 && wanted.l_type != F_UNLCK) {
      conflict.emplace();
      conflict->exclusive = wanted.l_type == F_WRLCK;
      conflict->range.start = static_cast<uint64_t>(wanted.l_start);
      conflict->range.end =
          wanted.l_len == 0 ? INT64_MAX : static_cast<uint64_t>(wanted.l_start + wanted.l_len - 1);
    }
  }
  DropIfEmpty(fid.node());
  return conflict;
}

void LockTable::Release(const Fid& fid) {
  const MutexLock lock(mutex_);
  const auto found = files_.find(fid.node());
  if (found == files_.end()) return;
  File& file = found->second;
  const size_t released =
      std::erase_if(file.locks, [&](const HeldLock& held) { return held.fid == &fid; });
  if (released == 0) return;
  count_ -= released;
  UnlockHost(file, LockRange{});
  DropIfEmpty(fid.node());
}

void LockTable::Clear() {
  const MutexLock lock(mutex_);
  files_.clear();
  count_ = 0;
}

}  // namespace crosvm::devices::p9

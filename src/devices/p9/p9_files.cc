// Requests about one file.
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "devices/p9/p9_server.h"
#include "shared_dir/transfer.h"

namespace crosvm::devices::p9 {

using shared_dir::Descriptor;

namespace {

// Of the client's flags those that mean the same here. Not O_APPEND: the client says where to
// write, and does so late when it caches. Not O_DIRECT: the guest's buffers have any alignment.
constexpr uint32_t kOpenFlags = O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC | O_DIRECTORY;
constexpr size_t kDirectoryBuffer = 32 * 1024;
// Bytes of a directory entry before its name: qid, offset, type, length of the name.
constexpr size_t kEntryBytes = kQidBytes + 8 + 1 + 2;

// The first `bytes` of `whole`, as far as there are.
std::vector<iovec> First(std::span<const iovec> whole, uint64_t bytes) {
  std::vector<iovec> part;
  for (const iovec& piece : whole) {
    if (bytes == 0) break;
    const size_t length = std::min<uint64_t>(piece.iov_len, bytes);
    part.push_back({piece.iov_base, length});
    bytes -= length;
  }
  return part;
}

timespec TimeOf(uint64_t seconds, uint64_t nanoseconds, bool given) {
  if (!given) return {.tv_sec = 0, .tv_nsec = UTIME_NOW};
  return {.tv_sec = static_cast<time_t>(seconds),
          .tv_nsec = static_cast<long>(std::min<uint64_t>(nanoseconds, 999'999'999))};
}

// Linux' encoding of a device number in a 64-bit field.
uint64_t DeviceNumber(uint32_t major, uint32_t minor) {
  return (minor & 0xffU) | (uint64_t{major} << 8) | (uint64_t{minor & ~0xffU} << 12);
}

// The host's types in directory entries are the client's.
uint8_t QidTypeOf(uint8_t type) {
  if (type == DT_DIR) return kQidDirectory;
  return type == DT_LNK ? kQidLink : 0;
}

}  // namespace

OkOrErrno Server::Lopen(Call& call) {
  const uint32_t number = call.in.U32();
  const uint32_t flags = call.in.U32();
  if (!call.in.ok()) return Refuse(EINVAL);
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  const struct statx attributes = TRY(share_.Stat(fid->node()));
  const int kept = static_cast<int>(flags & kOpenFlags);
  if (fid->open()) {
    // By the predecessor, of whose answer the client does not know.
    if (!call.request.replayed) return Refuse(EBUSY);
  } else {
    Budget::Lease lease = TRY(open_budget_.Lend());
    if ((kept & O_TRUNC) != 0) shared_dir::KeepSetIdBits(fid->user() == 0);
    sys::UniqueFd file = TRY(share_.Open(fid->node(), kept));
    if (!fid->SetOpen(std::move(file), std::move(lease), kept & ~O_TRUNC)) return Refuse(EBUSY);
    fids_->RecordOpen(number, kept & ~O_TRUNC);
    // Opened through a descriptor, which a successor does not have.
    if (share_.NameLost(fid->node())) fids_->KeepUnnamed(fid->node());
  }
  // 0: pieces as large as a message carries.
  call.out.Id(QidOf(attributes)).U32(0);
  return {};
}

OkOrErrno Server::ReadXattr(Call& call, const Xattr& xattr, uint64_t offset, uint32_t count) {
  const uint64_t size = xattr.value.size();
  const uint64_t from = std::min(offset, size);
  const uint64_t bytes = std::min<uint64_t>(count, size - from);
  const std::vector<iovec> room = First(call.request.room, bytes);
  uint64_t done = 0;
  for (const iovec& piece : room) {
    memcpy(piece.iov_base, xattr.value.data() + from + done, piece.iov_len);
    done += piece.iov_len;
  }
  call.data_bytes = static_cast<uint32_t>(done);
  call.out.U32(call.data_bytes);
  return {};
}

OkOrErrno Server::Read(Call& call) {
  const uint32_t number = call.in.U32();
  const uint64_t offset = call.in.U64();
  uint32_t count = call.in.U32();
  if (!call.in.ok() || offset > INT64_MAX) return Refuse(EINVAL);
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  count = std::min(count, RoomFor(call, kReadHeaderBytes));
  {
    const MutexLock lock(fid->mutex);
    if (fid->xattr != nullptr) {
      if (fid->xattr->writing) return Refuse(EBADF);
      return ReadXattr(call, *fid->xattr, offset, count);
    }
  }
  const Descriptor file = TRY(fid->File());
  std::vector<iovec> room = First(call.request.room, count);
  const uint64_t done =
      TRY(shared_dir::Transfer(room, offset, [&](const iovec* pieces, int pieces_count, off_t at) {
        return preadv(file->get(), pieces, pieces_count, at);
      }));
  call.data_bytes = static_cast<uint32_t>(done);
  call.out.U32(call.data_bytes);
  return {};
}

OkOrErrno Server::WriteXattr(Call& call, Xattr& xattr, uint64_t offset, uint32_t count) {
  if (!xattr.writing) return Refuse(EBADF);
  // In order and no more than was announced, so that the memory is bounded by the announcement.
  if (offset != xattr.value.size() || count > xattr.announced - offset) return Refuse(EINVAL);
  xattr.value.reserve(xattr.announced);
  for (const iovec& piece : First(call.request.data, count)) {
    const char* const bytes = static_cast<const char*>(piece.iov_base);
    xattr.value.insert(xattr.value.end(), bytes, bytes + piece.iov_len);
  }
  call.out.U32(static_cast<uint32_t>(xattr.value.size() - offset));
  return {};
}

OkOrErrno Server::Write(Call& call) {
  const uint32_t number = call.in.U32();
  const uint64_t offset = call.in.U64();
  const uint32_t count = call.in.U32();
  if (!call.in.ok() || offset > INT64_MAX) return Refuse(EINVAL);
  if (shared_dir::BytesOf(call.request.data) < count) return Refuse(EINVAL);
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  {
    const MutexLock lock(fid->mutex);
    if (fid->xattr_lost) return Refuse(EIO);
    if (fid->xattr != nullptr) return WriteXattr(call, *fid->xattr, offset, count);
  }
  const Descriptor file = TRY(fid->File());
  // An ordinary user's write takes the set-id bits away, as on a local file system.
  shared_dir::KeepSetIdBits(fid->user() == 0);
  std::vector<iovec> data = First(call.request.data, count);
  const uint64_t written =
      TRY(shared_dir::Transfer(data, offset, [&](const iovec* pieces, int pieces_count, off_t at) {
        return pwritev(file->get(), pieces, pieces_count, at);
      }));
  call.out.U32(static_cast<uint32_t>(written));
  return {};
}

OkOrErrno Server::Readdir(Call& call) {
  const uint32_t number = call.in.U32();
  const uint64_t offset = call.in.U64();
  uint32_t count = call.in.U32();
  if (!call.in.ok() || offset > INT64_MAX) return Refuse(EINVAL);
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  const Descriptor file = TRY(fid->File());
  const struct statx directory = TRY(share_.StatFile(*file));
  if (!S_ISDIR(directory.stx_mode)) return Refuse(ENOTDIR);
  const uint64_t device = (uint64_t{directory.stx_dev_major} << 32) | directory.stx_dev_minor;
  count = std::min(count, RoomFor(call, kReadHeaderBytes));
  call.out.U32(0);
  const size_t begin = call.out.size();

  const MutexLock lock(fid->directory_mutex);
  if (lseek(file->get(), static_cast<off_t>(offset), SEEK_SET) < 0) return shared_dir::RefuseLast();
  alignas(dirent64) std::array<char, kDirectoryBuffer> buffer;
  bool full = false;
  while (!full) {
    const long got = syscall(SYS_getdents64, file->get(), buffer.data(), buffer.size());
    if (got < 0) return shared_dir::RefuseLast();
    if (got == 0) break;
    for (long at = 0; at < got && !full;) {
      // SAFETY: the kernel fills the buffer with whole, aligned records.
      const auto* const entry = reinterpret_cast<const dirent64*>(buffer.data() + at);
      const std::string_view name(entry->d_name);
      // NTFS, exFAT, vfat and FUSE have longer ones than Linux' client has room for.
      if (name.size() > shared_dir::kMaxName) {
        at += entry->d_reclen;
        continue;
      }
      full = call.out.size() - begin + kEntryBytes + name.size() > count;
      if (full) break;
      // What is above the share is none of the guest's business: the root's parent is the root.
      const bool above = fid->node() == shared_dir::kRootNode && name == "..";
      const uint64_t inode = above ? directory.stx_ino : entry->d_ino;
      call.out.Id({.type = QidTypeOf(entry->d_type), .version = 0, .path = PathOf(device, inode)})
          .U64(static_cast<uint64_t>(entry->d_off))
          .U8(entry->d_type)
          .String(name);
      at += entry->d_reclen;
    }
  }
  const size_t bytes = call.out.size() - begin;
  // Not even one entry fits, which must not look like the end.
  if (full && bytes == 0) return Refuse(EINVAL);
  call.out.PatchU32(kHeaderBytes, static_cast<uint32_t>(bytes));
  return {};
}

OkOrErrno Server::Getattr(Call& call) {
  const uint32_t number = call.in.U32();
  const uint64_t wanted = call.in.U64();
  if (!call.in.ok()) return Refuse(EINVAL);
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  const struct statx attributes = TRY(share_.Stat(fid->node()));
  uint64_t valid = kAttrBasic;
  if ((wanted & kAttrBirth) != 0 && (attributes.stx_mask & STATX_BTIME) != 0) valid |= kAttrBirth;
  const auto time = [&](const statx_timestamp& stamp) {
    call.out.U64(static_cast<uint64_t>(stamp.tv_sec)).U64(stamp.tv_nsec);
  };
  call.out.U64(valid)
      .Id(QidOf(attributes))
      .U32(attributes.stx_mode)
      .U32(attributes.stx_uid)
      .U32(attributes.stx_gid)
      .U64(attributes.stx_nlink)
      .U64(DeviceNumber(attributes.stx_rdev_major, attributes.stx_rdev_minor))
      .U64(attributes.stx_size)
      .U64(attributes.stx_blksize)
      .U64(attributes.stx_blocks);
  time(attributes.stx_atime);
  time(attributes.stx_mtime);
  time(attributes.stx_ctime);
  time(attributes.stx_btime);
  call.out.U64(0).U64(0);  // generation and data version are not known
  return {};
}

OkOrErrno Server::Setattr(Call& call) {
  const uint32_t number = call.in.U32();
  const uint32_t valid = call.in.U32();
  const uint32_t mode = call.in.U32();
  const uint32_t user = call.in.U32();
  const uint32_t group = call.in.U32();
  const uint64_t size = call.in.U64();
  const uint64_t access_seconds = call.in.U64();
  const uint64_t access_nanoseconds = call.in.U64();
  const uint64_t change_seconds = call.in.U64();
  const uint64_t change_nanoseconds = call.in.U64();
  if (!call.in.ok()) return Refuse(EINVAL);
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  shared_dir::AttributeChange change;
  if ((valid & kSetMode) != 0) change.mode = mode & 07777;
  if ((valid & kSetUser) != 0) change.user = user;
  if ((valid & kSetGroup) != 0) change.group = group;
  if ((valid & kSetSize) != 0) change.size = size;
  if ((valid & kSetAccess) != 0) {
    change.access_time = TimeOf(access_seconds, access_nanoseconds, (valid & kSetAccessTo) != 0);
  }
  if ((valid & kSetModification) != 0) {
    change.modification_time =
        TimeOf(change_seconds, change_nanoseconds, (valid & kSetModificationTo) != 0);
  }
  // Only the time of the change: what a chown to nobody else does.
  if (valid == kSetChange) change.user = static_cast<uid_t>(-1);
  change.kill_set_id = fid->user() != 0;
  const Descriptor file = fid->FileIfOpen();
  TRY(share_.Change(fid->node(), file ? sys::BorrowedFd(*file) : sys::BorrowedFd(), change));
  return {};
}

OkOrErrno Server::Fsync(Call& call) {
  const uint32_t number = call.in.U32();
  const uint32_t data_only = call.in.U32();
  if (!call.in.ok()) return Refuse(EINVAL);
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  const Descriptor file = TRY(fid->File());
  const int result =
      sys::RetryEintr([&] { return data_only != 0 ? fdatasync(file->get()) : fsync(file->get()); });
  if (result != 0) return shared_dir::RefuseLast();
  return {};
}

OkOrErrno Server::Statfs(Call& call) {
  const uint32_t number = call.in.U32();
  if (!call.in.ok()) return Refuse(EINVAL);
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  const struct statfs found = TRY(share_.StatFileSystem(fid->node()));
  uint64_t id = 0;
  static_assert(sizeof(found.f_fsid) == sizeof(id));
  memcpy(&id, &found.f_fsid, sizeof(id));
  call.out.U32(static_cast<uint32_t>(found.f_type))
      .U32(static_cast<uint32_t>(found.f_bsize))
      .U64(found.f_blocks)
      .U64(found.f_bfree)
      .U64(found.f_bavail)
      .U64(found.f_files)
      .U64(found.f_ffree)
      .U64(id)
      .U32(static_cast<uint32_t>(found.f_namelen));
  return {};
}

OkOrErrno Server::Readlink(Call& call) {
  const uint32_t number = call.in.U32();
  if (!call.in.ok()) return Refuse(EINVAL);
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  call.out.String(TRY(share_.ReadLink(fid->node())));
  return {};
}

OkOrErrno Server::Lock(Call& call) {
  const uint32_t number = call.in.U32();
  const uint8_t type = call.in.U8();
  call.in.U32();  // whether the client would wait, and how: it asks again by itself
  const uint64_t start = call.in.U64();
  const uint64_t length = call.in.U64();
  const uint32_t process = call.in.U32();
  const std::string_view client = call.in.String();
  if (!call.in.ok() || type > kLockNone || client.size() > LockOwner::kMaxClient) {
    return Refuse(EINVAL);
  }
  const LockOwner owner{.process = process, .client = std::string(client)};
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  if (!fid->open()) return Refuse(EBADF);
  const LockRange range = TRY(MakeLockRange(start, length));
  bool got = true;
  if (type == kLockNone) {
    locks_.Unlock(*fid, owner, range);
  } else {
    got = TRY(locks_.Lock(*fid, owner, range, type == kLockWrite));
  }
  call.out.U8(got ? kLockSuccess : kLockBlocked);
  return {};
}

OkOrErrno Server::Getlock(Call& call) {
  const uint32_t number = call.in.U32();
  const uint8_t type = call.in.U8();
  const uint64_t start = call.in.U64();
  const uint64_t length = call.in.U64();
  const uint32_t process = call.in.U32();
  const std::string_view client = call.in.String();
  if (!call.in.ok() || type > kLockNone || client.size() > LockOwner::kMaxClient) {
    return Refuse(EINVAL);
  }
  const LockOwner owner{.process = process, .client = std::string(client)};
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  if (!fid->open()) return Refuse(EBADF);
  const LockRange range = TRY(MakeLockRange(start, length));
  const std::optional<HeldLock> other =
      TRY(locks_.Conflict(*fid, owner, range, type == kLockWrite));
  if (!other) {
    call.out.U8(kLockNone).U64(start).U64(length).U32(owner.process).String(owner.client);
    return {};
  }
  const uint64_t other_length =
      other->range.end == INT64_MAX ? 0 : other->range.end - other->range.start + 1;
  call.out.U8(other->exclusive ? kLockWrite : kLockRead)
      .U64(other->range.start)
      .U64(other_length)
      .U32(other->owner.process)
      .String(other->owner.client);
  return {};
}

OkOrErrno Server::Xattrwalk(Call& call) {
  const uint32_t number = call.in.U32();
  const uint32_t new_number = call.in.U32();
  const std::string_view name = call.in.String();
  if (!call.in.ok() || name.size() > XATTR_NAME_MAX || name.find('\0') != std::string_view::npos) {
    return Refuse(EINVAL);
  }
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  auto xattr = std::make_unique<Xattr>();
  if (name.empty()) {
    xattr->value = TRY(share_.ListXattr(fid->node()));
  } else {
    xattr->name = name;
    std::vector<char> buffer(XATTR_SIZE_MAX);
    buffer.resize(TRY(share_.GetXattr(fid->node(), xattr->name, buffer)));
    xattr->value.assign(buffer.begin(), buffer.end());  // no more room than bytes
  }
  const uint64_t size = xattr->value.size();
  xattr->lease = TRY(xattr_budget_.Lend(xattr->bytes()));
  TRY(share_.Reference(fid->node()));
  auto made = std::make_shared<Fid>(share_, open_budget_, fid->node(), fid->user());
  {
    const MutexLock lock(made->mutex);
    made->xattr = std::move(xattr);
  }
  TRY(call.request.replayed ? fids_->Replace(new_number, std::move(made))
                            : fids_->Insert(new_number, std::move(made)));
  call.out.U64(size);
  return {};
}

OkOrErrno Server::Xattrcreate(Call& call) {
  const uint32_t number = call.in.U32();
  const std::string_view name = call.in.String();
  const uint64_t size = call.in.U64();
  const uint32_t flags = call.in.U32();
  if (!call.in.ok() || name.empty() || name.size() > XATTR_NAME_MAX ||
      name.find('\0') != std::string_view::npos ||
      (flags & ~uint32_t{XATTR_CREATE | XATTR_REPLACE}) != 0) {
    return Refuse(EINVAL);
  }
  if (size > XATTR_SIZE_MAX) return Refuse(E2BIG);
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  if (fid->open()) return Refuse(EBUSY);
  {
    const MutexLock lock(fid->mutex);
    if (fid->xattr != nullptr) return Refuse(EBUSY);
    auto xattr = std::make_unique<Xattr>();
    xattr->name = name;
    xattr->announced = size;
    xattr->flags = static_cast<int>(flags);
    xattr->writing = true;
    xattr->lease = TRY(xattr_budget_.Lend(xattr->bytes()));
    fid->xattr = std::move(xattr);
    fid->xattr_lost = false;
  }
  fids_->RecordXattr(number);
  return {};
}

}  // namespace crosvm::devices::p9

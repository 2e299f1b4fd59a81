// Requests about open files: data goes straight between the file and guest memory.
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "devices/fs/server.h"
#include "shared_dir/transfer.h"

namespace crosvm::devices::fs {

using shared_dir::Created;
using shared_dir::Found;
using shared_dir::OkOrErrno;
using shared_dir::OrErrno;
using shared_dir::Refuse;
using shared_dir::RefuseLast;

namespace {

OkOrErrno Check(int result) {
  if (result != 0) return RefuseLast();
  return {};
}

}  // namespace

// --- opening -------------------------------------------------------------------------------------

int Server::HostFlags(uint32_t flags) const {
  // Not O_APPEND: each write says whether it appends, as that can change (F_SETFL), and pages of a
  // mapping come by any of the file's handles.
  int host = static_cast<int>(flags) & (O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC | O_EXCL);
  // The guest's kernel reads pages that are written in part.
  if (Negotiated(FUSE_WRITEBACK_CACHE) && (host & O_ACCMODE) == O_WRONLY) {
    host = (host & ~O_ACCMODE) | O_RDWR;
  }
  return host;
}

uint32_t Server::OpenAnswer(bool directory) const {
  switch (options_.cache) {
    case Cache::kNever:
      return directory ? 0 : FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
    case Cache::kAuto:
      return 0;
    case Cache::kAlways:
      return directory ? FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR : FOPEN_KEEP_CACHE;
  }
  return 0;
}

OkOrErrno Server::OpenNode(Request& request, Attempt& attempt, bool directory) {
  const fuse_open_in in = TRY(request.Take<fuse_open_in>());
  fuse_open_out out{};
  out.open_flags = OpenAnswer(directory);
  if (attempt.before == Stage::kDone && open_->Get(static_cast<uint64_t>(attempt.value))) {
    out.fh = static_cast<uint64_t>(attempt.value);
    attempt.result = attempt.value;
    return request.PutStruct(out);
  }
  const uint16_t type = TRY(share_->TypeOf(request.node()));
  if (directory && type != S_IFDIR) return Refuse(ENOTDIR);
  if (!directory && type == S_IFDIR) return Refuse(EISDIR);
  const int flags = directory ? O_RDONLY | O_DIRECTORY : HostFlags(in.flags);
  if ((flags & O_TRUNC) != 0) {
    shared_dir::KeepSetIdBits((in.open_flags & FUSE_OPEN_KILL_SUIDGID) == 0);
  }
  OrErrno<sys::UniqueFd> file = share_->Open(request.node(), flags);
  if (!file.has_value() && file.error().value == EACCES && (in.flags & O_ACCMODE) == O_WRONLY) {
    // Writable but not readable for us: better without the guest's caching of partial pages.
    file = share_->Open(request.node(), (flags & ~O_ACCMODE) | O_WRONLY);
  }
  if (!file.has_value()) return std::unexpected(file.error());
  out.fh = TRY(open_->Add(request.node(), std::move(*file), flags, directory));
  attempt.result = static_cast<int64_t>(out.fh);
  // Opened through a descriptor, which a successor does not have.
  if (share_->NameLost(request.node())) open_->LosesName(request.node());
  const OkOrErrno put = request.PutStruct(out);
  if (!put.has_value()) open_->Remove(out.fh);
  return put;
}

OkOrErrno Server::Open(Request& request, Attempt& attempt) {
  return OpenNode(request, attempt, false);
}

OkOrErrno Server::OpenDir(Request& request, Attempt& attempt) {
  return OpenNode(request, attempt, true);
}

OkOrErrno Server::PutCreated(Request& request, Attempt& attempt, OrErrno<Created> created,
                             int flags) {
  if (!created.has_value()) return std::unexpected(created.error());
  const shared_dir::NodeId node = created->found.node;
  const OkOrErrno put = [&]() -> OkOrErrno {
    fuse_open_out out{};
    out.open_flags = OpenAnswer(false);
    out.fh = TRY(open_->Add(node, std::move(created->file), flags, false));
    attempt.result = static_cast<int64_t>(out.fh);
    OkOrErrno done = request.PutStruct(Entry(created->found));
    if (done.has_value()) done = request.PutStruct(out);
    if (!done.has_value()) open_->Remove(out.fh);
    return done;
  }();
  if (!put.has_value()) share_->Forget(node, 1);
  return put;
}

OkOrErrno Server::Create(Request& request, Attempt& attempt) {
  const fuse_create_in in = TRY(request.Take<fuse_create_in>());
  std::string_view rest = TRY(request.TakeRest());
  const std::string_view name = TRY(Request::TakeString(rest));
  const int flags = HostFlags(in.flags);
  const auto existing = [&]() -> OrErrno<Created> {
    const Found found = TRY(share_->Lookup(request.node(), name));
    OrErrno<sys::UniqueFd> file = share_->Open(found.node, flags & ~(O_TRUNC | O_EXCL));
    if (!file.has_value()) {
      share_->Forget(found.node, 1);
      return std::unexpected(file.error());
    }
    return Created{.found = found, .file = std::move(*file)};
  };
  if (attempt.before == Stage::kDone) {
    open_->Remove(static_cast<uint64_t>(attempt.value));
    return PutCreated(request, attempt, existing(), flags);
  }
  if ((flags & O_TRUNC) != 0) {
    shared_dir::KeepSetIdBits((in.open_flags & FUSE_OPEN_KILL_SUIDGID) == 0);
  }
  OrErrno<Created> created =
      share_->Create(request.caller(in.umask), request.node(), name, flags, in.mode);
  if (attempt.before == Stage::kBegun && !created.has_value() && created.error().value == EEXIST) {
    created = existing();
  }
  return PutCreated(request, attempt, std::move(created), flags);
}

OkOrErrno Server::TmpFile(Request& request, Attempt& attempt) {
  const fuse_create_in in = TRY(request.Take<fuse_create_in>());
  const int flags = HostFlags(in.flags) & ~O_TRUNC;
  OkOrErrno put = PutCreated(
      request, attempt,
      share_->CreateUnnamed(request.caller(in.umask), request.node(), flags, in.mode), flags);
  if (put.has_value()) {
    const auto file = open_->Get(static_cast<uint64_t>(attempt.result));
    if (file.has_value()) open_->LosesName((*file)->node);
  }
  return put;
}

OkOrErrno Server::Release(Request& request, Attempt&) {
  const fuse_release_in in = TRY(request.Take<fuse_release_in>());
  open_->Remove(in.fh);
  return {};
}

// --- data ----------------------------------------------------------------------------------------

OkOrErrno Server::Read(Request& request, Attempt&) {
  const fuse_read_in in = TRY(request.Take<fuse_read_in>());
  const std::shared_ptr<OpenFile> file = TRY(open_->Get(in.fh));
  if (file->is_directory) return Refuse(EISDIR);
  const std::span<iovec> iovecs = request.Room(std::min(in.size, kMaxTransfer));
  const uint64_t done =
      TRY(shared_dir::Transfer(iovecs, in.offset, [&](iovec* data, int count, off_t at) {
        return preadv(file->fd().get(), data, count, at);
      }));
  request.PutDone(done);
  return {};
}

OkOrErrno Server::Write(Request& request, Attempt& attempt) {
  const fuse_write_in in = TRY(request.Take<fuse_write_in>());
  fuse_write_out out{};
  if (attempt.before == Stage::kDone) {
    out.size = static_cast<uint32_t>(attempt.value);
    attempt.result = attempt.value;
    return request.PutStruct(out);
  }
  const std::shared_ptr<OpenFile> file = TRY(open_->Get(in.fh));
  if (in.size > kMaxTransfer) return Refuse(EINVAL);
  const std::span<iovec> iovecs = TRY(request.TakeData(in.size));
  shared_dir::KeepSetIdBits((in.write_flags & FUSE_WRITE_KILL_SUIDGID) == 0);
  // With its own cache the guest's kernel places appended data itself; and what a predecessor may
  // have appended is written to the same place once more.
  const bool append = (in.flags & O_APPEND) != 0 && (in.write_flags & FUSE_WRITE_CACHE) == 0 &&
                      !Negotiated(FUSE_WRITEBACK_CACHE) && attempt.before == Stage::kNone;
  const uint64_t done =
      TRY(shared_dir::Transfer(iovecs, in.offset, [&](iovec* data, int count, off_t at) {
        return pwritev2(file->fd().get(), data, count, at, append ? RWF_APPEND : 0);
      }));
  out.size = static_cast<uint32_t>(done);
  attempt.result = static_cast<int64_t>(done);
  return request.PutStruct(out);
}

OkOrErrno Server::Fsync(Request& request, Attempt&) {
  const fuse_fsync_in in = TRY(request.Take<fuse_fsync_in>());
  const std::shared_ptr<OpenFile> file = TRY(open_->Get(in.fh));
  const bool data_only = (in.fsync_flags & FUSE_FSYNC_FDATASYNC) != 0;
  return Check(data_only ? fdatasync(file->fd().get()) : fsync(file->fd().get()));
}

OkOrErrno Server::SyncFs(Request&, Attempt&) {
  const sys::UniqueFd root = TRY(share_->Open(shared_dir::kRootNode, O_RDONLY | O_DIRECTORY));
  return Check(syncfs(root.get()));
}

OkOrErrno Server::Fallocate(Request& request, Attempt& attempt) {
  const fuse_fallocate_in in = TRY(request.Take<fuse_fallocate_in>());
  if (attempt.before == Stage::kDone) return {};
  const std::shared_ptr<OpenFile> file = TRY(open_->Get(in.fh));
  if (in.offset > INT64_MAX || in.length > INT64_MAX) return Refuse(EFBIG);
  // The caller's right to keep set-id bits is not told; a local file system clears them for all but
  // root.
  shared_dir::KeepSetIdBits(request.header().uid == 0);
  return Check(fallocate(file->fd().get(), static_cast<int>(in.mode), static_cast<off_t>(in.offset),
                         static_cast<off_t>(in.length)));
}

OkOrErrno Server::Lseek(Request& request, Attempt&) {
  const fuse_lseek_in in = TRY(request.Take<fuse_lseek_in>());
  // The guest's kernel asks without writing its cache back first: what it holds would be a hole,
  // and cp(1) would leave it out. Upon this it takes all of a file for data.
  if (Negotiated(FUSE_WRITEBACK_CACHE)) return Refuse(ENOSYS);
  const std::shared_ptr<OpenFile> file = TRY(open_->Get(in.fh));
  if (file->is_directory || in.offset > INT64_MAX) return Refuse(EINVAL);
  // The others the guest's kernel answers itself. Positions are not used otherwise.
  if (in.whence != SEEK_DATA && in.whence != SEEK_HOLE) return Refuse(EINVAL);
  const off_t at =
      lseek(file->fd().get(), static_cast<off_t>(in.offset), static_cast<int>(in.whence));
  if (at < 0) return RefuseLast();
  return request.PutStruct(fuse_lseek_out{.offset = static_cast<uint64_t>(at)});
}

OkOrErrno Server::CopyFileRange(Request& request, Attempt& attempt) {
  const fuse_copy_file_range_in in = TRY(request.Take<fuse_copy_file_range_in>());
  fuse_write_out out{};
  if (attempt.before == Stage::kDone) {
    out.size = static_cast<uint32_t>(attempt.value);
    attempt.result = attempt.value;
    return request.PutStruct(out);
  }
  const std::shared_ptr<OpenFile> from = TRY(open_->Get(in.fh_in));
  const std::shared_ptr<OpenFile> to = TRY(open_->Get(in.fh_out));
  if (in.off_in > INT64_MAX || in.off_out > INT64_MAX) return Refuse(EINVAL);
  auto from_at = static_cast<off_t>(in.off_in);
  auto to_at = static_cast<off_t>(in.off_out);
  shared_dir::KeepSetIdBits(request.header().uid == 0);  // as for FALLOCATE
  // One request does not keep a worker for minutes; the guest's kernel asks for the rest.
  constexpr uint64_t kMost = 64U << 20;
  const ssize_t done = copy_file_range(from->fd().get(), &from_at, to->fd().get(), &to_at,
                                       std::min(in.len, kMost), 0);
  if (done < 0) return RefuseLast();
  out.size = static_cast<uint32_t>(done);
  attempt.result = done;
  return request.PutStruct(out);
}

// --- ioctl ---------------------------------------------------------------------------------------

OkOrErrno Server::Ioctl(Request& request, Attempt&) {
  const fuse_ioctl_in in = TRY(request.Take<fuse_ioctl_in>());
  if ((in.flags & FUSE_IOCTL_UNRESTRICTED) != 0) return Refuse(EPERM);
  const std::shared_ptr<OpenFile> file = TRY(open_->Get(in.fh));
  const int fd = file->fd().get();
  fuse_ioctl_out out{};
  // What lsattr and chattr use, and the projects of quotas. Each with its own fixed struct.
  switch (in.cmd) {
    case FS_IOC_GETFLAGS: {
      unsigned flags = 0;
      TRY(Check(ioctl(fd, FS_IOC_GETFLAGS, &flags)));
      TRY(request.PutStruct(out));
      return request.PutStruct(flags);
    }
    case FS_IOC_SETFLAGS: {
      if (share_->options().read_only) return Refuse(EROFS);
      const unsigned flags = TRY(request.Take<unsigned>());
      TRY(Check(ioctl(fd, FS_IOC_SETFLAGS, &flags)));
      return request.PutStruct(out);
    }
    case FS_IOC_FSGETXATTR: {
      fsxattr attributes{};
      TRY(Check(ioctl(fd, FS_IOC_FSGETXATTR, &attributes)));
      TRY(request.PutStruct(out));
      return request.PutStruct(attributes);
    }
    case FS_IOC_FSSETXATTR: {
      if (share_->options().read_only) return Refuse(EROFS);
      const fsxattr attributes = TRY(request.Take<fsxattr>());
      TRY(Check(ioctl(fd, FS_IOC_FSSETXATTR, &attributes)));
      return request.PutStruct(out);
    }
    default:
      return Refuse(ENOTTY);
  }
}

// --- directories ---------------------------------------------------------------------------------

OrErrno<bool> Server::PutDirent(Request& request, const OpenFile& directory, const dirent64& entry,
                                uint64_t room, bool plus) {
  const size_t length = strlen(entry.d_name);
  // NTFS, exFAT, vfat and FUSE have longer ones than a guest may say or Linux' clients take.
  if (length > shared_dir::kMaxName) return true;
  const size_t dirent_size = FUSE_REC_ALIGN(FUSE_NAME_OFFSET + length);
  const size_t size = dirent_size + (plus ? sizeof(fuse_entry_out) : 0);
  if (size > std::min(room, request.room())) return false;
  const std::string_view name(entry.d_name, length);
  fuse_dirent wire{};
  wire.ino = entry.d_ino;
  wire.off = static_cast<uint64_t>(entry.d_off);
  wire.namelen = static_cast<uint32_t>(length);
  wire.type = entry.d_type;
  if (plus) {
    // Node 0: the kernel looks it up when it is wanted. So an entry is there even when the table of
    // nodes is full or the file has just gone.
    fuse_entry_out known{};
    known.attr.ino = entry.d_ino;
    known.attr.mode = static_cast<uint32_t>(entry.d_type) << 12;
    if (shared_dir::CheckName(name) == 0) {
      const OrErrno<Found> found = share_->Lookup(directory.node, name);
      if (found.has_value()) known = Entry(*found);
    }
    TRY(request.PutStruct(known));
  }
  std::array<char, FUSE_REC_ALIGN(FUSE_NAME_OFFSET + shared_dir::kMaxName)> bytes{};
  memcpy(bytes.data(), &wire, FUSE_NAME_OFFSET);
  memcpy(bytes.data() + FUSE_NAME_OFFSET, name.data(), length);
  TRY(request.Put(std::span<const char>(bytes).first(dirent_size)));
  return true;
}

OkOrErrno Server::ReadEntries(Request& request, bool plus) {
  const fuse_read_in in = TRY(request.Take<fuse_read_in>());
  const std::shared_ptr<OpenFile> directory = TRY(open_->Get(in.fh));
  if (!directory->is_directory || directory->node != request.node()) return Refuse(ENOTDIR);
  std::vector<char>& buffer = request.buffers().bytes;
  uint64_t left = std::min<uint64_t>(std::min(in.size, kMaxDirectoryBytes), request.room());
  // An entry is longer for the guest than for us; what does not fit is read again.
  buffer.resize(std::max<uint64_t>(plus ? left / 4 : left, 1024));
  MutexLock lock(directory->mutex);
  const int fd = directory->fd().get();
  auto position = static_cast<int64_t>(in.offset);
  bool any = false;
  while (true) {
    if (directory->position != position) {
      if (lseek(fd, position, SEEK_SET) < 0) return RefuseLast();
      directory->position = position;
    }
    const long got = syscall(SYS_getdents64, fd, buffer.data(), buffer.size());
    if (got < 0 && !any) return RefuseLast();
    if (got <= 0) return {};
    for (long at = 0; at < got;) {
      // SAFETY: the kernel fills the buffer with whole records, aligned to 8 bytes.
      const auto& entry = *reinterpret_cast<const dirent64*>(buffer.data() + at);
      const uint64_t before = request.room();
      if (!TRY(PutDirent(request, *directory, entry, left, plus))) {
        directory->position = -1;
        return {};
      }
      left -= before - request.room();
      position = entry.d_off;
      at += entry.d_reclen;
      any = any || request.room() < before;
    }
    directory->position = position;
    // A second call of the kernel pays for itself only when much room is left; but nothing at all
    // would look like the end.
    if (any && left < buffer.size()) return {};
  }
}

OkOrErrno Server::ReadDir(Request& request, Attempt&) {
  return ReadEntries(request, false);
}

OkOrErrno Server::ReadDirPlus(Request& request, Attempt&) {
  return ReadEntries(request, true);
}

}  // namespace crosvm::devices::fs

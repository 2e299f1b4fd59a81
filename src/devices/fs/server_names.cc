// Requests about names and about what a file is.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstring>

#include "devices/fs/server.h"

namespace crosvm::devices::fs {

using shared_dir::AttributeChange;
using shared_dir::Found;
using shared_dir::KnownName;
using shared_dir::NodeId;
using shared_dir::OkOrErrno;
using shared_dir::OrErrno;
using shared_dir::Refuse;
using shared_dir::Share;

namespace {

uint32_t Device(const struct statx& from) {
  // As the kernel's new_encode_dev().
  return static_cast<uint32_t>((from.stx_rdev_minor & 0xff) | (from.stx_rdev_major << 8) |
                               ((from.stx_rdev_minor & ~0xffU) << 12));
}

SxTime Time(const statx_timestamp& from) {
  return {.tv_sec = from.tv_sec, .tv_nsec = from.tv_nsec, .reserved = 0};
}

std::optional<timespec> TimeToSet(uint32_t valid, uint32_t set, uint32_t now, uint64_t seconds,
                                  uint32_t nanoseconds) {
  if ((valid & now) != 0) return timespec{.tv_sec = 0, .tv_nsec = UTIME_NOW};
  if ((valid & set) == 0) return std::nullopt;
  // Beyond these a number has another meaning for utimensat(2).
  return timespec{.tv_sec = static_cast<time_t>(seconds),
                  .tv_nsec = std::min<int64_t>(nanoseconds, 999'999'999)};
}

}  // namespace

fuse_attr Server::Attributes(NodeId node, const struct statx& from) const {
  fuse_attr to{};
  to.ino = from.stx_ino;
  to.size = from.stx_size;
  to.blocks = from.stx_blocks;
  to.atime = static_cast<uint64_t>(from.stx_atime.tv_sec);
  to.mtime = static_cast<uint64_t>(from.stx_mtime.tv_sec);
  to.ctime = static_cast<uint64_t>(from.stx_ctime.tv_sec);
  to.atimensec = from.stx_atime.tv_nsec;
  to.mtimensec = from.stx_mtime.tv_nsec;
  to.ctimensec = from.stx_ctime.tv_nsec;
  to.mode = from.stx_mode;
  to.nlink = from.stx_nlink;
  to.uid = from.stx_uid;
  to.gid = from.stx_gid;
  to.rdev = Device(from);
  to.blksize = from.stx_blksize;
  // A directory that another file system of the host is mounted on is one of its own in the guest,
  // as inode numbers are only unique within each.
  if (Negotiated(FUSE_SUBMOUNTS) && S_ISDIR(from.stx_mode) && node != shared_dir::kRootNode &&
      (from.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0) {
    to.flags |= FUSE_ATTR_SUBMOUNT;
  }
  // For who mounts with `-o dax=inode` or says nothing; with `-o dax` the guest does not look.
  if (Negotiated(FUSE_HAS_INODE_DAX) && S_ISREG(from.stx_mode)) to.flags |= FUSE_ATTR_DAX;
  return to;
}

fuse_entry_out Server::Entry(const Found& found) const {
  fuse_entry_out entry{};
  entry.nodeid = found.node;
  entry.entry_valid = seconds();
  entry.attr_valid = seconds();
  entry.attr = Attributes(found.node, found.attributes);
  return entry;
}

OkOrErrno Server::PutEntry(Request& request, const OrErrno<Found>& found) {
  if (!found.has_value()) return std::unexpected(found.error());
  const OkOrErrno put = request.PutStruct(Entry(*found));
  if (!put.has_value()) share_->Forget(found->node, 1);
  return put;
}

OkOrErrno Server::PutAttributes(Request& request, const OrErrno<struct statx>& attributes) {
  if (!attributes.has_value()) return std::unexpected(attributes.error());
  fuse_attr_out out{};
  out.attr_valid = seconds();
  out.attr = Attributes(request.node(), *attributes);
  return request.PutStruct(out);
}

OkOrErrno Server::Lookup(Request& request, Attempt&) {
  std::string_view rest = TRY(request.TakeRest());
  const std::string_view name = TRY(Request::TakeString(rest));
  const OrErrno<Found> found = share_->Lookup(request.node(), name);
  if (!found.has_value() && found.error().value == ENOENT && options_.cache == Cache::kAlways) {
    // The guest may remember that there is nothing of that name, as it would remember a file.
    fuse_entry_out nothing{};
    nothing.entry_valid = seconds();
    return request.PutStruct(nothing);
  }
  return PutEntry(request, found);
}

OrErrno<struct statx> Server::StatNode(NodeId node, bool by_handle, uint64_t handle) {
  if (by_handle) {
    const auto file = open_->Get(handle);
    if (file.has_value() && (*file)->node == node) return share_->StatFile((*file)->fd());
  }
  return share_->Stat(node);
}

OkOrErrno Server::GetAttr(Request& request, Attempt&) {
  const fuse_getattr_in in = TRY(request.Take<fuse_getattr_in>());
  return PutAttributes(request,
                       StatNode(request.node(), (in.getattr_flags & FUSE_GETATTR_FH) != 0, in.fh));
}

OkOrErrno Server::Statx(Request& request, Attempt&) {
  const StatxIn in = TRY(request.Take<StatxIn>());
  const struct statx from =
      TRY(StatNode(request.node(), (in.getattr_flags & FUSE_GETATTR_FH) != 0, in.fh));
  StatxOut out{};
  out.attr_valid = seconds();
  WireStatx& to = out.stat;
  to.mask = from.stx_mask;
  to.blksize = from.stx_blksize;
  to.attributes = from.stx_attributes;
  to.attributes_mask = from.stx_attributes_mask;
  to.nlink = from.stx_nlink;
  to.uid = from.stx_uid;
  to.gid = from.stx_gid;
  to.mode = from.stx_mode;
  to.ino = from.stx_ino;
  to.size = from.stx_size;
  to.blocks = from.stx_blocks;
  to.atime = Time(from.stx_atime);
  to.btime = Time(from.stx_btime);
  to.ctime = Time(from.stx_ctime);
  to.mtime = Time(from.stx_mtime);
  to.rdev_major = from.stx_rdev_major;
  to.rdev_minor = from.stx_rdev_minor;
  to.dev_major = from.stx_dev_major;
  to.dev_minor = from.stx_dev_minor;
  return request.PutStruct(out);
}

OkOrErrno Server::SetAttr(Request& request, Attempt&) {
  const fuse_setattr_in in = TRY(request.Take<fuse_setattr_in>());
  AttributeChange change;
  if ((in.valid & FATTR_MODE) != 0) change.mode = in.mode & 07777;
  if ((in.valid & FATTR_UID) != 0) change.user = in.uid;
  if ((in.valid & FATTR_GID) != 0) change.group = in.gid;
  if ((in.valid & FATTR_SIZE) != 0) change.size = in.size;
  change.access_time = TimeToSet(in.valid, FATTR_ATIME, FATTR_ATIME_NOW, in.atime, in.atimensec);
  change.modification_time =
      TimeToSet(in.valid, FATTR_MTIME, FATTR_MTIME_NOW, in.mtime, in.mtimensec);
  change.kill_set_id = (in.valid & FATTR_KILL_SUIDGID) != 0;
  std::shared_ptr<OpenFile> file;
  if ((in.valid & FATTR_FH) != 0) {
    const auto found = open_->Get(in.fh);
    if (found.has_value() && (*found)->node == request.node()) file = *found;
  }
  const OrErrno<struct statx> changed =
      share_->Change(request.node(), file ? file->fd() : sys::BorrowedFd(), change);
  // With its own cache the guest's kernel writes times back also of a file that it has just
  // deleted; an error would come out of the next syncfs(2). One that somebody on the host renamed
  // it looks for again upon ESTALE.
  const bool only_times = (in.valid & ~uint32_t{FATTR_MTIME | FATTR_CTIME}) == 0;
  const bool gone =
      !changed.has_value() && (changed.error().value == ESTALE || changed.error().value == ENOENT);
  if (gone && only_times && Negotiated(FUSE_WRITEBACK_CACHE) && share_->NameLost(request.node())) {
    fuse_attr_out out{};
    // An answer of another type than the file's makes Linux give the file up for good.
    out.attr.mode = TRY(share_->TypeOf(request.node()));
    return request.PutStruct(out);
  }
  return PutAttributes(request, changed);
}

OkOrErrno Server::ReadLink(Request& request, Attempt&) {
  const std::string target = TRY(share_->ReadLink(request.node()));
  return request.Put(std::span<const char>(target));
}

// --- creating ------------------------------------------------------------------------------------

template <typename Make>
OkOrErrno Server::MakeEntry(Request& request, Attempt& attempt, std::string_view name,
                            Make&& make) {
  OrErrno<Found> made =
      attempt.before == Stage::kDone ? share_->Lookup(request.node(), name) : make();
  if (attempt.before == Stage::kBegun && !made.has_value() && made.error().value == EEXIST) {
    made = share_->Lookup(request.node(), name);
  }
  return PutEntry(request, made);
}

OkOrErrno Server::Symlink(Request& request, Attempt& attempt) {
  std::string_view rest = TRY(request.TakeRest());
  const std::string_view name = TRY(Request::TakeString(rest));
  const std::string target(TRY(Request::TakeString(rest)));
  return MakeEntry(request, attempt, name, [&] {
    return share_->MakeLink(request.caller(0), request.node(), name, target);
  });
}

OkOrErrno Server::MkNod(Request& request, Attempt& attempt) {
  const fuse_mknod_in in = TRY(request.Take<fuse_mknod_in>());
  std::string_view rest = TRY(request.TakeRest());
  const std::string_view name = TRY(Request::TakeString(rest));
  return MakeEntry(request, attempt, name, [&] {
    return share_->MakeNode(request.caller(in.umask), request.node(), name, in.mode, in.rdev);
  });
}

OkOrErrno Server::MkDir(Request& request, Attempt& attempt) {
  const fuse_mkdir_in in = TRY(request.Take<fuse_mkdir_in>());
  std::string_view rest = TRY(request.TakeRest());
  const std::string_view name = TRY(Request::TakeString(rest));
  return MakeEntry(request, attempt, name, [&] {
    return share_->MakeDirectory(request.caller(in.umask), request.node(), name, in.mode);
  });
}

OkOrErrno Server::Link(Request& request, Attempt& attempt) {
  const fuse_link_in in = TRY(request.Take<fuse_link_in>());
  std::string_view rest = TRY(request.TakeRest());
  const std::string_view name = TRY(Request::TakeString(rest));
  return MakeEntry(request, attempt, name,
                   [&] { return share_->HardLink(in.oldnodeid, request.node(), name); });
}

// --- removing and renaming -----------------------------------------------------------------------

OkOrErrno Server::Unlink(Request& request, Attempt& attempt) {
  return Remove(request, attempt, &Share::Unlink);
}

OkOrErrno Server::RmDir(Request& request, Attempt& attempt) {
  return Remove(request, attempt, &Share::RemoveDirectory);
}

OkOrErrno Server::Remove(Request& request, Attempt& attempt,
                         OkOrErrno (Share::*remove)(NodeId, std::string_view)) {
  std::string_view rest = TRY(request.TakeRest());
  const std::string_view name = TRY(Request::TakeString(rest));
  if (attempt.before == Stage::kDone) return {};
  const std::optional<KnownName> known = BeforeNameGoes(request.node(), name);
  const OkOrErrno result = ((*share_).*remove)(request.node(), name);
  if (result.has_value() && known) AfterNameWent(*known, request.node(), name);
  return attempt.MayHaveHappened(result, ENOENT) ? OkOrErrno() : result;
}

std::optional<KnownName> Server::BeforeNameGoes(NodeId parent, std::string_view name) {
  if (share_->options().read_only) return std::nullopt;
  const std::optional<KnownName> known = share_->KnownUnder(parent, name);
  if (known && known->open) open_->LosesName(known->node);
  // Who comes with the node, by another of its names, shall not have to look for it.
  if (known && !known->last) (void)share_->Locate(known->node);
  return known;
}

void Server::AfterNameWent(const KnownName& known, NodeId parent, std::string_view name) {
  share_->ForgetName(known, parent, name);
  // Opened beside this request, before it could see that the name goes.
  if (share_->IsOpen(known.node)) open_->LosesName(known.node);
}

OkOrErrno Server::Rename(Request& request, Attempt& attempt) {
  const fuse_rename_in in = TRY(request.Take<fuse_rename_in>());
  return RenameNames(request, attempt, in.newdir, 0);
}

OkOrErrno Server::Rename2(Request& request, Attempt& attempt) {
  const fuse_rename2_in in = TRY(request.Take<fuse_rename2_in>());
  return RenameNames(request, attempt, in.newdir, in.flags);
}

OkOrErrno Server::RenameNames(Request& request, Attempt& attempt, uint64_t to, unsigned flags) {
  std::string_view rest = TRY(request.TakeRest());
  const std::string_view name = TRY(Request::TakeString(rest));
  const std::string_view new_name = TRY(Request::TakeString(rest));
  if (attempt.before == Stage::kDone) return {};
  const auto noted = static_cast<uint64_t>(attempt.value);
  if (attempt.before == Stage::kBegun && noted != 0 &&
      share_->RenameHappened(request.node(), name, to, new_name, noted)) {
    return {};
  }
  const uint64_t inode = TRY(share_->InodeUnder(request.node(), name));
  attempt.Foresee(static_cast<int64_t>(inode));
  std::optional<KnownName> known;
  if ((flags & RENAME_EXCHANGE) == 0) known = BeforeNameGoes(to, new_name);
  const OkOrErrno result = share_->Rename(request.node(), name, to, new_name, flags);
  // The same file stays under both names.
  if (result.has_value() && known && known->inode != inode) {
    AfterNameWent(*known, to, new_name);
  }
  return result;
}

// --- extended attributes and the file system -----------------------------------------------------

OkOrErrno Server::SetXattr(Request& request, Attempt& attempt) {
  fuse_setxattr_in in{};
  if (Negotiated(FUSE_SETXATTR_EXT)) {
    in = TRY(request.Take<fuse_setxattr_in>());
  } else {
    in.size = TRY(request.Take<uint32_t>());
    in.flags = TRY(request.Take<uint32_t>());
  }
  std::string_view rest = TRY(request.TakeRest());
  const std::string name(TRY(Request::TakeString(rest)));
  if (rest.size() < in.size) return Refuse(EINVAL);
  if (attempt.before == Stage::kDone) return {};
  if (name.empty() || name.size() > shared_dir::kMaxName) return Refuse(ERANGE);
  shared_dir::KeepSetIdBits((in.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) == 0);
  const OkOrErrno result =
      share_->SetXattr(request.node(), name, rest.substr(0, in.size), static_cast<int>(in.flags));
  return attempt.MayHaveHappened(result, EEXIST) ? OkOrErrno() : result;
}

OkOrErrno Server::GetXattr(Request& request, Attempt&) {
  const fuse_getxattr_in in = TRY(request.Take<fuse_getxattr_in>());
  std::string_view rest = TRY(request.TakeRest());
  const std::string name(TRY(Request::TakeString(rest)));
  if (name.empty() || name.size() > shared_dir::kMaxName) return Refuse(ERANGE);
  std::vector<char>& value = request.buffers().bytes;
  value.resize(std::min(in.size, uint32_t{XATTR_SIZE_MAX}));
  const size_t size = TRY(share_->GetXattr(request.node(), name, value));
  if (in.size == 0) {
    return request.PutStruct(fuse_getxattr_out{.size = static_cast<uint32_t>(size), .padding = 0});
  }
  return request.Put(std::span<const char>(value).first(size));
}

OkOrErrno Server::ListXattr(Request& request, Attempt&) {
  const fuse_getxattr_in in = TRY(request.Take<fuse_getxattr_in>());
  const std::vector<char> list = TRY(share_->ListXattr(request.node()));
  if (in.size == 0) {
    return request.PutStruct(
        fuse_getxattr_out{.size = static_cast<uint32_t>(list.size()), .padding = 0});
  }
  if (list.size() > in.size) return Refuse(ERANGE);
  return request.Put(std::span<const char>(list));
}

OkOrErrno Server::RemoveXattr(Request& request, Attempt& attempt) {
  std::string_view rest = TRY(request.TakeRest());
  const std::string name(TRY(Request::TakeString(rest)));
  if (attempt.before == Stage::kDone) return {};
  if (name.empty() || name.size() > shared_dir::kMaxName) return Refuse(ERANGE);
  const OkOrErrno result = share_->RemoveXattr(request.node(), name);
  return attempt.MayHaveHappened(result, ENODATA) ? OkOrErrno() : result;
}

OkOrErrno Server::StatFs(Request& request, Attempt&) {
  const struct statfs from = TRY(share_->StatFileSystem(request.node()));
  fuse_statfs_out out{};
  out.st.blocks = from.f_blocks;
  out.st.bfree = from.f_bfree;
  out.st.bavail = from.f_bavail;
  out.st.files = from.f_files;
  out.st.ffree = from.f_ffree;
  out.st.bsize = static_cast<uint32_t>(from.f_bsize);
  out.st.namelen = static_cast<uint32_t>(from.f_namelen);
  out.st.frsize = static_cast<uint32_t>(from.f_frsize);
  return request.PutStruct(out);
}

}  // namespace crosvm::devices::fs

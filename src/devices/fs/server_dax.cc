// Requests about the DAX window (FUSE 7.31): the guest's kernel says which part of a file it wants
// to see where in the window, and accesses it there without asking. The VMM maps it; it also knows
// what is mapped, and refuses what does not fit.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "base/checked_math.h"
#include "devices/fs/server.h"

namespace crosvm::devices::fs {

using shared_dir::OkOrErrno;
using shared_dir::Refuse;

namespace {

constexpr uint64_t kPage = uint64_t{1} << kMapAlignment;

int ErrnoOf(const Error& error) {
  return error.kind() == ErrorKind::kInvalidArgument ? EINVAL : EIO;
}

}  // namespace

void Server::SetWindow(std::shared_ptr<virtio::SharedMemoryMapper> window) {
  MutexLock lock(window_mutex_);
  window_ = std::move(window);
}

std::shared_ptr<virtio::SharedMemoryMapper> Server::window() const {
  if (options_.dax_window == 0) return nullptr;
  MutexLock lock(window_mutex_);
  return window_;
}

OkOrErrno Server::SetupMapping(Request& request, Attempt&) {
  const std::shared_ptr<virtio::SharedMemoryMapper> mapper = window();
  if (mapper == nullptr) return Refuse(ENOSYS);
  const fuse_setupmapping_in in = TRY(request.Take<fuse_setupmapping_in>());
  constexpr uint64_t kFlags = FUSE_SETUPMAPPING_FLAG_READ | FUSE_SETUPMAPPING_FLAG_WRITE;
  if ((in.flags & ~kFlags) != 0 || !IsAligned(in.foffset | in.moffset | in.len, kPage) ||
      in.len == 0 || !RangeFits(in.moffset, in.len, options_.dax_window) ||
      !RangeFits(in.foffset, in.len, uint64_t{INT64_MAX})) {
    return Refuse(EINVAL);
  }
  if (TRY(share_->TypeOf(request.node())) != S_IFREG) return Refuse(EINVAL);
  const bool writable = (in.flags & FUSE_SETUPMAPPING_FLAG_WRITE) != 0;
  // By the node and not by in.fh: a mapping serves all who have the file open, and Linux names no
  // handle. What the guest's programs may do is the guest's kernel's to check, as elsewhere.
  const sys::UniqueFd file = TRY(share_->Open(request.node(), writable ? O_RDWR : O_RDONLY));
  const virtio::SharedMemoryRange range{
      .region = VIRTIO_FS_SHMCAP_ID_CACHE, .offset = in.moffset, .length = in.len};
  // Over a mapping of the same range when Linux begins to write what it has only read: our VMM
  // changes the one for the other at once.
  Status mapped = mapper->Map(range, file, in.foffset, writable);
  if (!mapped.has_value() && mapped.error().kind() == ErrorKind::kInvalidArgument &&
      mapper->Unmap(range).has_value()) {
    // vhost-user demands no more of a VMM than this.
    mapped = mapper->Map(range, file, in.foffset, writable);
  }
  if (!mapped.has_value()) return Refuse(ErrnoOf(mapped.error()));
  return {};
}

OkOrErrno Server::RemoveMapping(Request& request, Attempt&) {
  const std::shared_ptr<virtio::SharedMemoryMapper> mapper = window();
  if (mapper == nullptr) return Refuse(ENOSYS);
  const fuse_removemapping_in in = TRY(request.Take<fuse_removemapping_in>());
  if (in.count > kMaxUnmappings) return Refuse(EINVAL);
  OkOrErrno result;
  // The list ends where the chain does, whatever its count says.
  for (uint32_t i = 0; i < in.count; ++i) {
    const fuse_removemapping_one one = TRY(request.Take<fuse_removemapping_one>());
    if (one.len == 0 || !IsAligned(one.moffset | one.len, kPage) ||
        !RangeFits(one.moffset, one.len, options_.dax_window)) {
      result = Refuse(EINVAL);
      continue;
    }
    const Status unmapped = mapper->Unmap(
        {.region = VIRTIO_FS_SHMCAP_ID_CACHE, .offset = one.moffset, .length = one.len});
    if (!unmapped.has_value()) result = Refuse(ErrnoOf(unmapped.error()));
  }
  return result;
}

void Server::UnmapWindow() {
  const std::shared_ptr<virtio::SharedMemoryMapper> mapper = window();
  // The guest's kernel has removed its mappings by itself, mostly.
  if (mapper != nullptr) {
    (void)mapper->Unmap(
        {.region = VIRTIO_FS_SHMCAP_ID_CACHE, .offset = 0, .length = options_.dax_window});
  }
}

}  // namespace crosvm::devices::fs

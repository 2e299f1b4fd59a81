#include "devices/vsock/vsock_module.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "codec/cbor.h"
#include "codec/key_value.h"
#include "config/vsock_options.h"
#include "devices/vsock/directory_connector.h"
#include "devices/vsock/vsock_device.h"
#include "policies/vsock.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace crosvm::devices::vsock {
namespace {

// What travels from Prepare to Create.
struct VsockStart {
  uint64_t cid = 0;
  codec::FdSlot directory;
  codec::FdSlot listener;

  static constexpr auto Describe() {
    return Fields(Field("cid", &VsockStart::cid), Field("directory", &VsockStart::directory),
                  Field("listener", &VsockStart::listener));
  }
};

Result<std::string> AbsolutePath(const std::string& path) {
  char resolved[PATH_MAX];
  if (realpath(path.c_str(), resolved) == nullptr) {
    const int err = errno;
    if (err == ENOENT) {
      return Fail(ErrorKind::kNotFound,
                  "path={}: there is no such folder; make it, and in it the sockets that the guest "
                  "is to reach",
                  path);
    }
    errno = err;
    return FailErrno("path={}", path);
  }
  return std::string(resolved);
}

Result<sys::UnixListener> Listen(const std::string& path) {
  Result<sys::UnixListener> listener = sys::UnixListener::Bind(path, sys::SocketType::kStream);
  if (listener.has_value() || listener.error().sys_errno() != EADDRINUSE) return listener;
  // Somebody's, or what a VM that was killed has left.
  const Result<sys::UnixSocket> other = sys::UnixSocket::Connect(path, sys::SocketType::kStream);
  if (other.has_value() || other.error().sys_errno() != ECONNREFUSED) {
    return Fail(ErrorKind::kBusy,
                "{} is in use: another VM has this folder; give each VM its own path=…", path);
  }
  if (unlink(path.c_str()) != 0) return FailErrno("removing the old socket {}", path);
  return sys::UnixListener::Bind(path, sys::SocketType::kStream);
}

Result<PreparedDevice> Prepare(std::string_view text) {
  const config::VsockOptions options = TRY(codec::ParseKeyValue<config::VsockOptions>(text));
  if (options.path.empty()) {
    return Fail(ErrorKind::kInvalidArgument, "path=FOLDER is missing, where the sockets are");
  }
  const std::string path = TRY(AbsolutePath(options.path));
  PreparedDevice prepared;
  VsockStart start{.cid = options.cid, .directory = {}, .listener = {}};
  sys::UniqueFd directory = TRY(sys::Open(path, O_PATH | O_DIRECTORY));
  start.directory = prepared.fds.Put(std::move(directory));
  sys::UnixListener listener = TRY(Listen(path + "/" + kListenerName));
  TRY(sys::SetNonBlocking(listener.fd(), true));
  sys::UniqueFd listening = TRY(listener.fd().Dup());
  start.listener = prepared.fds.Put(std::move(listening));
  prepared.keep.push_back(std::make_shared<sys::UnixListener>(std::move(listener)));

  prepared.jail.root_path = path;
  prepared.jail.root = start.directory;
  // Sockets are connected to with the rights of who started the VM, as they belong to it.
  if (geteuid() == 0) {
    prepared.jail.uid_map = {{.inside = 0, .outside = geteuid(), .count = 1}};
    prepared.jail.gid_map = {{.inside = 0, .outside = getegid(), .count = 1}};
  }
  prepared.start = codec::ToCbor(start);
  return prepared;
}

Result<std::unique_ptr<virtio::Device>> Create(PreparedDevice prepared,
                                               const CreateContext& context) {
  const VsockStart start = TRY(codec::FromCbor<VsockStart>(prepared.start, prepared.fds.size()));
  sys::UniqueFd directory = TRY(prepared.fds.Take(start.directory));
  DirectoryConnector connector = TRY(DirectoryConnector::Create(std::move(directory)));
  sys::UniqueFd listener = TRY(prepared.fds.Take(start.listener));
  std::unique_ptr<VsockDevice> device = TRY(VsockDevice::Create(
      context.loop, start.cid, std::make_unique<DirectoryConnector>(std::move(connector)),
      std::move(listener)));
  return device;
}

}  // namespace

const DeviceModule kVsockModule = {
    .name = "vsock",
    .summary = "sockets between guest and host, over Unix sockets (virtio-vsock)",
    .option_help = "cid=CID,path=FOLDER",
    .prepare = &Prepare,
    .create = &Create,
    .policy = policies::kVsock,
};

}  // namespace crosvm::devices::vsock

#include "devices/vsock/directory_connector.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>

#include "sys/file.h"

namespace crosvm::devices::vsock {

Result<DirectoryConnector> DirectoryConnector::Create(sys::UniqueFd directory) {
  const struct stat ours = TRY(sys::Stat(directory));
  struct stat root{};
  if (stat("/", &root) != 0) return FailErrno("looking at the root directory");
  std::string prefix = ours.st_dev == root.st_dev && ours.st_ino == root.st_ino
                           ? "/"
                           : fmt::format("/proc/self/fd/{}/", directory.get());
  return DirectoryConnector(std::move(directory), std::move(prefix));
}

Result<sys::UniqueFd> DirectoryConnector::Connect(uint32_t port) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("{}{}", prefix_, port);
  if (path.size() >= sizeof(address.sun_path)) {
    return Fail(ErrorKind::kInternal, "{} is too long for a socket", path);
  }
  memcpy(address.sun_path, path.data(), path.size());
  sys::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return FailErrno("making a socket");
  // SAFETY: as connect(2) wants it.
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    return fd;
  }
  if (errno == EAGAIN) return Fail(ErrorKind::kBusy, "port {}: its listener's queue is full", port);
  return FailErrno("connecting to the socket of port {}", port);
}

}  // namespace crosvm::devices::vsock

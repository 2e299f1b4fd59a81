#include "sys/socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cstring>

#include "base/check.h"

namespace crosvm::sys {
namespace {

constexpr size_t kControlBytes = CMSG_SPACE(sizeof(int) * kMaxFdsPerMessage);

int SocketKind(SocketType type) {
  switch (type) {
    case SocketType::kStream:
      return SOCK_STREAM | SOCK_CLOEXEC;
    case SocketType::kSeqPacket:
      return SOCK_SEQPACKET | SOCK_CLOEXEC;
    case SocketType::kDatagram:
      break;
  }
  return SOCK_DGRAM | SOCK_CLOEXEC;
}

// An address, and the folder that has to stay open while it is used.
struct Address {
  sockaddr_un name{};
  UniqueFd folder;

  // SAFETY: every socket call takes its address as the generic type.
  const sockaddr* generic() const { return reinterpret_cast<const sockaddr*>(&name); }
  socklen_t size() const { return sizeof(name); }
};

Result<Address> MakeAddress(const std::string& path) {
  if (path.empty() || path.find('\0') != std::string::npos) {
    return Fail(ErrorKind::kInvalidArgument, "'{}' cannot be the path of a socket", path.c_str());
  }
  Address address;
  address.name.sun_family = AF_UNIX;
  std::string short_path = path;
  if (short_path.size() >= sizeof(address.name.sun_path)) {
    const size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    const std::string file = slash == std::string::npos ? path : path.substr(slash + 1);
    address.folder = UniqueFd(open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!address.folder.valid()) return FailErrno("opening {}", folder);
    short_path = fmt::format("/proc/self/fd/{}/{}", address.folder.get(), file);
    if (short_path.size() >= sizeof(address.name.sun_path)) {
      return Fail(ErrorKind::kInvalidArgument,
                  "the socket name {} is too long: use at most {} bytes", file,
                  sizeof(address.name.sun_path) - 30);
    }
  }
  memcpy(address.name.sun_path, short_path.data(), short_path.size());
  return address;
}

Result<UniqueFd> MakeSocket(SocketType type) {
  UniqueFd fd(socket(AF_UNIX, SocketKind(type), 0));
  if (!fd.valid()) return FailErrno("creating a Unix socket");
  return fd;
}

// Takes ownership of every descriptor that came along, before anything else is looked at.
std::vector<UniqueFd> TakeFds(msghdr& message) {
  std::vector<UniqueFd> fds;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      // SAFETY: the kernel wrote `count` ints there; CMSG_DATA need not be aligned for them.
      memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(fd));
      fds.emplace_back(fd);
    }
  }
  return fds;
}

}  // namespace

Result<std::pair<UnixSocket, UnixSocket>> UnixSocket::Pair(SocketType type) {
  int fds[2];
  if (socketpair(AF_UNIX, SocketKind(type), 0, fds) == -1) {
    return FailErrno("creating a socket pair");
  }
  return std::pair(UnixSocket(UniqueFd(fds[0])), UnixSocket(UniqueFd(fds[1])));
}

Result<UnixSocket> UnixSocket::Connect(const std::string& path, SocketType type) {
  const Address address = TRY_CONTEXT(MakeAddress(path), "connecting to {}", path);
  UniqueFd fd = TRY(MakeSocket(type));
  if (RetryEintr([&] { return connect(fd.get(), address.generic(), address.size()); }) == -1) {
    return FailErrno("connecting to {}", path);
  }
  return UnixSocket(std::move(fd));
}

Result<size_t> UnixSocket::Send(std::span<const uint8_t> data,
                                std::span<const BorrowedFd> fds) const {
  // An empty packet reads as the end of the connection, and a stream carries no descriptors without
  // a byte.
  if (data.empty()) return Fail(ErrorKind::kInvalidArgument, "cannot send an empty message");
  if (fds.size() > kMaxFdsPerMessage) {
    return Fail(ErrorKind::kInvalidArgument, "cannot send {} descriptors in one message, only {}",
                fds.size(), kMaxFdsPerMessage);
  }
  // sendmsg(2) does not write through the pointer; the member is only not const for recvmsg(2).
  iovec part{const_cast<uint8_t*>(data.data()), data.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) uint8_t control[kControlBytes] = {};
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    for (size_t i = 0; i < fds.size(); ++i) {
      const int fd = fds[i].get();
      // SAFETY: `control` has room for kMaxFdsPerMessage, checked above.
      memcpy(CMSG_DATA(header) + i * sizeof(int), &fd, sizeof(fd));
    }
  }
  const ssize_t sent = RetryEintr([&] { return sendmsg(fd_.get(), &message, MSG_NOSIGNAL); });
  if (sent == -1) return FailErrno("sending {} bytes", data.size());
  return static_cast<size_t>(sent);
}

Status UnixSocket::SendAll(std::span<const uint8_t> data, std::span<const BorrowedFd> fds) const {
  size_t done = 0;
  while (done < data.size()) {
    auto sent = Send(data.subspan(done), done == 0 ? fds : std::span<const BorrowedFd>());
    if (!sent) {
      if (done != 0 && sent.error().kind() == ErrorKind::kBusy) {
        return Fail(ErrorKind::kTimedOut, "the peer took only {} of {} bytes", done, data.size());
      }
      return std::unexpected(std::move(sent).error());
    }
    done += *sent;
  }
  if (data.empty() && !fds.empty()) {
    return Fail(ErrorKind::kInvalidArgument, "cannot send descriptors without a byte");
  }
  return {};
}

Result<Received> UnixSocket::Receive(std::span<uint8_t> buffer) const {
  return ReceiveOnce(buffer, 0);
}

Result<Received> UnixSocket::Peek(std::span<uint8_t> buffer) const {
  return ReceiveOnce(buffer, MSG_PEEK);
}

Status UnixSocket::SetPeekOffset(int offset) const {
  if (setsockopt(fd_.get(), SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset)) == -1) {
    return FailErrno("setting where a socket is peeked at");
  }
  return {};
}

Status UnixSocket::Discard() const {
  uint8_t byte = 0;
  iovec part{&byte, 1};
  // No room for descriptors: the kernel drops them.
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (RetryEintr([&] { return recvmsg(fd_.get(), &message, 0); }) == -1) {
    return FailErrno("taking a message away");
  }
  return {};
}

Result<Received> UnixSocket::ReceiveOnce(std::span<uint8_t> buffer, int flags) const {
  if (buffer.empty()) return Fail(ErrorKind::kInvalidArgument, "cannot receive into no bytes");
  iovec part{buffer.data(), buffer.size()};
  alignas(cmsghdr) uint8_t control[kControlBytes];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  const ssize_t got = RetryEintr([&] {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    return recvmsg(fd_.get(), &message, flags | MSG_CMSG_CLOEXEC);
  });
  if (got == -1) return FailErrno("receiving a message");
  Received received;
  received.bytes = static_cast<size_t>(got);
  received.fds = TakeFds(message);
  if ((message.msg_flags & MSG_TRUNC) != 0) {
    return Fail(ErrorKind::kProtocol, "the peer's message is longer than {} bytes", buffer.size());
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    return Fail(ErrorKind::kProtocol,
                "descriptors of the peer's message were lost: there are more than {}, or this "
                "process may open no more",
                kMaxFdsPerMessage);
  }
  if (received.bytes == 0 && !received.fds.empty()) {
    return Fail(ErrorKind::kProtocol, "the peer sent descriptors without a message");
  }
  return received;
}

Result<Received> UnixSocket::ReceiveAll(std::span<uint8_t> buffer) const {
  Received all;
  while (all.bytes < buffer.size()) {
    auto part = Receive(buffer.subspan(all.bytes));
    if (!part) {
      if (all.bytes != 0 && part.error().kind() == ErrorKind::kBusy) {
        return Fail(ErrorKind::kTimedOut, "the peer sent only {} of {} bytes", all.bytes,
                    buffer.size());
      }
      return std::unexpected(std::move(part).error());
    }
    if (part->bytes == 0) {
      return Fail(ErrorKind::kDisconnected, "the peer has closed after {} of {} bytes", all.bytes,
                  buffer.size());
    }
    all.bytes += part->bytes;
    for (UniqueFd& fd : part->fds) all.fds.push_back(std::move(fd));
    if (all.fds.size() > kMaxFdsPerMessage) {
      return Fail(ErrorKind::kProtocol, "the peer sent more than {} descriptors with a message",
                  kMaxFdsPerMessage);
    }
  }
  return all;
}

Status UnixSocket::SetTimeouts(std::chrono::milliseconds timeout) const {
  timeval value{};
  value.tv_sec = timeout.count() / 1000;
  value.tv_usec = timeout.count() % 1000 * 1000;
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
    if (setsockopt(fd_.get(), SOL_SOCKET, option, &value, sizeof(value)) == -1) {
      return FailErrno("setting the timeout of a socket");
    }
  }
  return {};
}

UnixListener::UnixListener(UnixListener&& other) noexcept
    : fd_(std::move(other.fd_)),
      path_(std::exchange(other.path_, {})),
      device_(other.device_),
      inode_(other.inode_) {
}

UnixListener& UnixListener::operator=(UnixListener&& other) noexcept {
  if (this != &other) {
    RemovePath();
    fd_ = std::move(other.fd_);
    path_ = std::exchange(other.path_, {});
    device_ = other.device_;
    inode_ = other.inode_;
  }
  return *this;
}

UnixListener::~UnixListener() {
  RemovePath();
}

void UnixListener::RemovePath() {
  if (path_.empty()) return;
  struct stat info{};
  if (lstat(path_.c_str(), &info) == 0 && info.st_dev == device_ && info.st_ino == inode_) {
    unlink(path_.c_str());
  }
  path_.clear();
}

Result<UnixListener> UnixListener::Bind(const std::string& path, SocketType type) {
  const Address address = TRY_CONTEXT(MakeAddress(path), "listening on {}", path);
  UnixListener listener;
  listener.fd_ = TRY(MakeSocket(type));
  if (bind(listener.fd_.get(), address.generic(), address.size()) == -1) {
    return FailErrno("listening on {}", path);
  }
  struct stat info{};
  if (lstat(path.c_str(), &info) == -1) return FailErrno("looking at the new socket {}", path);
  listener.device_ = info.st_dev;
  listener.inode_ = info.st_ino;
  listener.path_ = path;
  if (listen(listener.fd_.get(), SOMAXCONN) == -1) return FailErrno("listening on {}", path);
  return listener;
}

Result<UnixSocket> UnixListener::Accept() const {
  UniqueFd fd(RetryEintr([&] { return accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC); }));
  if (!fd.valid()) return FailErrno("accepting a connection on {}", path_);
  return UnixSocket(std::move(fd));
}

}  // namespace crosvm::sys

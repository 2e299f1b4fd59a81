// `crosvm vsock connect`: standard input and output as one end of a stream to a guest whose device
// is `--vsock cid=…,path=…`.
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "cli/commands.h"
#include "codec/key_value.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace crosvm::cli {
namespace {

// devices/vsock/vsock_module.h
constexpr const char* kListenerName = "connect";
constexpr size_t kBlock = 64 << 10;

// The listening socket itself, or the folder that it is in.
std::string ListenerPath(std::string_view given) {
  std::string path(given);
  struct stat info{};
  if (stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
    path += '/';
    path += kListenerName;
  }
  return path;
}

Result<sys::UnixSocket> Dial(const std::string& path, uint32_t port) {
  Result<sys::UnixSocket> socket = sys::UnixSocket::Connect(path, sys::SocketType::kStream);
  if (!socket.has_value()) {
    if (socket.error().sys_errno() == ECONNREFUSED || socket.error().sys_errno() == ENOENT) {
      return Fail(socket.error().kind(),
                  "{}; give the folder of --vsock cid=…,path=FOLDER of a VM that runs",
                  socket.error().ToString());
    }
    return socket;
  }
  const std::string greeting = fmt::format("CONNECT {}\n", port);
  // SAFETY: characters as bytes.
  TRY(socket->SendAll({reinterpret_cast<const uint8_t*>(greeting.data()), greeting.size()}));
  std::string answer;
  char byte = 0;
  // What follows the line is the stream's.
  while (!answer.ends_with('\n') && answer.size() < 32) {
    const ssize_t got = sys::RetryEintr([&] { return read(socket->fd().get(), &byte, 1); });
    if (got < 0 && errno != ECONNRESET) return FailErrno("{}", path);
    if (got <= 0) {
      return Fail(
          ErrorKind::kDisconnected,
          "the guest takes no connection on port {}: nobody listens there, or its driver is "
          "not loaded",
          port);
    }
    answer += byte;
  }
  if (!answer.starts_with("OK ")) {
    return Fail(ErrorKind::kProtocol, "{} is not the socket of a --vsock device", path);
  }
  return socket;
}

// Until the guest closes its side. The end of the input closes ours.
Status Pump(const sys::UnixSocket& socket, sys::BorrowedFd in, sys::BorrowedFd out) {
  std::vector<uint8_t> block(kBlock);
  std::vector<uint8_t> outgoing;
  size_t sent = 0;
  bool in_open = true;
  while (true) {
    const bool to_send = sent < outgoing.size();
    std::array<pollfd, 2> fds = {
        pollfd{.fd = socket.fd().get(),
               .events = static_cast<short>(POLLIN | (to_send ? POLLOUT : 0)),
               .revents = 0},
        // A negative descriptor is passed over.
        pollfd{.fd = in_open && !to_send ? in.get() : -1, .events = POLLIN, .revents = 0}};
    if (sys::RetryEintr([&] { return poll(fds.data(), fds.size(), -1); }) < 0) {
      return FailErrno("waiting");
    }
    if (fds[1].revents != 0) {
      const ssize_t got =
          sys::RetryEintr([&] { return read(in.get(), block.data(), block.size()); });
      if (got < 0 && errno != EAGAIN) return FailErrno("reading standard input");
      if (got > 0) outgoing.assign(block.begin(), block.begin() + got);
      sent = 0;
      if (got == 0) {
        in_open = false;
        (void)shutdown(socket.fd().get(), SHUT_WR);
      }
    }
    if ((fds[0].revents & POLLOUT) != 0) {
      const ssize_t got = send(socket.fd().get(), outgoing.data() + sent, outgoing.size() - sent,
                               MSG_DONTWAIT | MSG_NOSIGNAL);
      if (got < 0 && errno != EAGAIN && errno != EINTR) {
        // The guest reads no more, but may still speak.
        if (errno != EPIPE && errno != ECONNRESET) return FailErrno("writing to the guest");
        in_open = false;
        sent = outgoing.size();
      }
      if (got > 0) sent += static_cast<size_t>(got);
      if (sent == outgoing.size()) outgoing.clear(), sent = 0;
    }
    if ((fds[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
      const ssize_t got = recv(socket.fd().get(), block.data(), block.size(), MSG_DONTWAIT);
      if (got < 0 && errno == ECONNRESET) {
        return Fail(ErrorKind::kDisconnected, "the stream was reset");
      }
      if (got < 0 && errno != EAGAIN && errno != EINTR) return FailErrno("reading from the guest");
      if (got == 0) return {};
      if (got > 0) TRY(sys::WriteAll(out, std::span(block).first(static_cast<size_t>(got))));
    }
  }
}

}  // namespace

Result<int> VsockCommand(const Invocation& invocation) {
  const auto& words = invocation.arguments.positionals;
  if (words[0] != "connect") {
    return Fail(ErrorKind::kInvalidArgument, "\"{}\" is not known; it is: connect SOCKET PORT",
                words[0]);
  }
  const uint64_t port = TRY_CONTEXT(codec::ParseNumber(words[2]), "PORT");
  if (port >= UINT32_MAX) {
    return Fail(ErrorKind::kInvalidArgument, "PORT {}: from 0 to {}", port, UINT32_MAX - 1);
  }
  const sys::UnixSocket socket = TRY(Dial(ListenerPath(words[1]), static_cast<uint32_t>(port)));
  TRY(Pump(socket, sys::BorrowedFd(STDIN_FILENO), invocation.out));
  return kExitOk;
}

}  // namespace crosvm::cli

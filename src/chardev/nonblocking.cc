#include "chardev/nonblocking.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "sys/epoll.h"

namespace crosvm::chardev {
namespace {

// What any pipe or terminal that polls as writable takes at once.
constexpr size_t kCautiousBytes = 1;

bool PollNow(const sys::UniqueFd& fd, short events) {
  pollfd poll_fd{.fd = fd.get(), .events = events, .revents = 0};
  return sys::RetryEintr([&] { return poll(&poll_fd, 1, 0); }) > 0;
}

bool EpollTakes(const sys::UniqueFd& fd) {
  const Result<sys::Epoll> epoll = sys::Epoll::Create();
  return epoll.has_value() && epoll->Add(fd, EPOLLIN, 0).has_value();
}

}  // namespace

Result<NonBlockingFd> NonBlockingFd::Create(sys::UniqueFd fd, Use use) {
  struct stat info{};
  if (fstat(fd.get(), &info) != 0) return FailErrno("looking at a character stream");
  if (S_ISSOCK(info.st_mode)) return NonBlockingFd(std::move(fd), Kind::kSocket, true);
  if (!S_ISCHR(info.st_mode) && !S_ISFIFO(info.st_mode)) {
    const bool pollable = EpollTakes(fd);
    return NonBlockingFd(std::move(fd), Kind::kPlain, pollable);
  }
  const std::string path = fmt::format("/proc/self/fd/{}", fd.get());
  int access = use == Use::kRead ? O_RDONLY : O_WRONLY;
  // Who opened a FIFO for both stays its writer: without any it would be at its end.
  if (S_ISFIFO(info.st_mode) && (fcntl(fd.get(), F_GETFL) & O_ACCMODE) == O_RDWR) access = O_RDWR;
  const int flags = access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  sys::UniqueFd own(open(path.c_str(), flags));
  Kind kind = Kind::kPlain;
  if (own.valid()) {
    fd = std::move(own);
  } else if ((fcntl(fd.get(), F_GETFL) & O_NONBLOCK) == 0) {
    kind = Kind::kCautious;
  }
  const bool pollable = EpollTakes(fd);
  return NonBlockingFd(std::move(fd), kind, pollable);
}

int64_t NonBlockingFd::Write(std::span<const uint8_t> data) const {
  if (kind_ == Kind::kCautious) {
    if (!PollNow(fd_, POLLOUT)) return 0;
    data = data.first(std::min(data.size(), kCautiousBytes));
  }
  const ssize_t written = sys::RetryEintr([&] {
    return kind_ == Kind::kSocket
               ? send(fd_.get(), data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL)
               : write(fd_.get(), data.data(), data.size());
  });
  if (written >= 0) return written;
  return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -int64_t{errno};
}

int64_t NonBlockingFd::Read(std::span<uint8_t> buffer) const {
  if (kind_ == Kind::kCautious && !PollNow(fd_, POLLIN)) return -EAGAIN;
  const ssize_t got = sys::RetryEintr([&] {
    return kind_ == Kind::kSocket ? recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT)
                                  : read(fd_.get(), buffer.data(), buffer.size());
  });
  return got >= 0 ? got : -int64_t{errno};
}

}  // namespace crosvm::chardev

#include "sys/event_fd.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>

namespace crosvm::sys {
namespace {

// Pipes and sockets raise SIGPIPE on a write and may block, so only what can be an eventfd is ever
// written to. Descriptors without a type in st_mode are those of anonymous inodes, to which
// eventfds belong.
bool CanBeEventFd(const UniqueFd& fd) {
  struct stat info{};
  return fstat(fd.get(), &info) == 0 && (info.st_mode & S_IFMT) == 0;
}

// False for a counter at its maximum, which write() waits for if it may.
bool HasRoom(const UniqueFd& fd) {
  pollfd state{.fd = fd.get(), .events = POLLOUT, .revents = 0};
  return RetryEintr([&] { return poll(&state, 1, 0); }) == 1 && (state.revents & POLLOUT) != 0;
}

}  // namespace

Result<EventFd> EventFd::Make(bool guarded) {
  UniqueFd fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.valid()) return FailErrno("creating an eventfd");
  return EventFd(std::move(fd), true, guarded);
}

Result<EventFd> EventFd::Create() {
  return Make(/*guarded=*/true);
}

Result<EventFd> EventFd::CreatePrivate() {
  return Make(/*guarded=*/false);
}

EventFd EventFd::Adopt(UniqueFd fd) {
  if (!fd.valid()) return {};
  // The peer may have made it blocking. One that cannot be set is not an eventfd either.
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags != -1) fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK);
  const bool writable = CanBeEventFd(fd);
  return EventFd(std::move(fd), writable, /*guarded=*/false);
}

Result<EventFd> EventFd::Dup() const {
  return EventFd(TRY(fd_.Dup()), writable_, guarded_);
}

void EventFd::Signal() const {
  if (!writable_) return;
  // The kernel has no write to an eventfd that does not wait whatever the flag says (there is
  // RWF_NOWAIT for reading alone).
  if (guarded_ && !HasRoom(fd_)) return;
  const uint64_t one = 1;
  // EAGAIN: the counter is at its maximum, hence already signalled. Other failures are those of a
  // descriptor that is no eventfd, and its sender is the only one who loses.
  [[maybe_unused]] const ssize_t written =
      RetryEintr([&] { return write(fd_.get(), &one, sizeof(one)); });
}

uint64_t EventFd::Drain() const {
  if (!fd_.valid()) return 0;
  uint64_t count = 0;
  iovec part{.iov_base = &count, .iov_len = sizeof(count)};
  // -1: at the descriptor's own position, as read() does.
  const ssize_t size = RetryEintr([&] {
    return guarded_ ? preadv2(fd_.get(), &part, 1, -1, RWF_NOWAIT)
                    : read(fd_.get(), &count, sizeof(count));
  });
  return size == static_cast<ssize_t>(sizeof(count)) ? count : 0;
}

}  // namespace crosvm::sys

#include "sys/event_fd.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

namespace crosvm::sys {
namespace {

// Pipes and sockets raise SIGPIPE on a write and may block, so only what can be an eventfd is ever
// written to. Descriptors without a type in st_mode are those of anonymous inodes, to which
// eventfds belong.
bool CanBeEventFd(const UniqueFd& fd) {
  struct stat info{};
  return fstat(fd.get(), &info) == 0 && (info.st_mode & S_IFMT) == 0;
}

}  // namespace

Result<EventFd> EventFd::Create() {
  UniqueFd fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.valid()) return FailErrno("creating an eventfd");
  return EventFd(std::move(fd), true);
}

EventFd EventFd::Adopt(UniqueFd fd) {
  if (!fd.valid()) return {};
  // The peer may have made it blocking. One that cannot be set is not an eventfd either.
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags != -1) fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK);
  const bool writable = CanBeEventFd(fd);
  return EventFd(std::move(fd), writable);
}

Result<EventFd> EventFd::Dup() const {
  return EventFd(TRY(fd_.Dup()), writable_);
}

void EventFd::Signal() const {
  if (!writable_) return;
  const uint64_t one = 1;
  // EAGAIN: the counter is at its maximum, hence already signalled. Other failures are those of a
  // descriptor that is no eventfd, and its sender is the only one who loses.
  [[maybe_unused]] const ssize_t written =
      RetryEintr([&] { return write(fd_.get(), &one, sizeof(one)); });
}

uint64_t EventFd::Drain() const {
  if (!fd_.valid()) return 0;
  uint64_t count = 0;
  const ssize_t size = RetryEintr([&] { return read(fd_.get(), &count, sizeof(count)); });
  return size == static_cast<ssize_t>(sizeof(count)) ? count : 0;
}

}  // namespace crosvm::sys

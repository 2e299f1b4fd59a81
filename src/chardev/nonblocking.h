// Makes reads and writes of a descriptor that somebody else may share (a terminal, a pipe of the
// shell) non-blocking without setting O_NONBLOCK on the shared open file description, which would
// break the other users.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"
#include "sys/fd.h"

namespace crosvm::chardev {

class NonBlockingFd {
 public:
  enum class Use : uint8_t { kRead, kWrite };

  // Takes `fd`. Terminals and pipes are opened anew through /proc/self/fd; where that fails the
  // descriptor is used as it is, with poll(2) before each short write.
  static Result<NonBlockingFd> Create(sys::UniqueFd fd, Use use);

  const sys::UniqueFd& fd() const { return fd_; }
  // False for what epoll(7) refuses: regular files and some devices, which are always ready.
  bool pollable() const { return pollable_; }

  // Bytes written (0: it would block now), or the negative errno. Never blocks on a peer. The
  // process ignores SIGPIPE.
  int64_t Write(std::span<const uint8_t> data) const;
  // Bytes read, 0 at the end, -EAGAIN when nothing is there, or another negative errno.
  int64_t Read(std::span<uint8_t> buffer) const;

 private:
  enum class Kind : uint8_t { kPlain, kSocket, kCautious };

  NonBlockingFd(sys::UniqueFd fd, Kind kind, bool pollable)
      : fd_(std::move(fd)), kind_(kind), pollable_(pollable) {}

  sys::UniqueFd fd_;
  Kind kind_;
  bool pollable_;
};

}  // namespace crosvm::chardev

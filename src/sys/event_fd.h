// eventfd(2): the doorbell between the VMM, KVM (ioeventfd, irqfd) and device processes.
#pragma once

#include <cstdint>

#include "sys/fd.h"

namespace crosvm::sys {

class EventFd {
 public:
  EventFd() = default;
  // Non-blocking, close-on-exec, counter 0.
  static Result<EventFd> Create();
  // Takes a descriptor received from elsewhere; it need not be an eventfd (a hostile peer may send anything).
  static EventFd Adopt(UniqueFd fd);

  bool valid() const { return fd_.valid(); }
  const UniqueFd& fd() const { return fd_; }
  Result<EventFd> Dup() const;

  // Adds one. Never blocks; a counter at its maximum stays there, which signals as well.
  void Signal() const;
  // Reads and zeroes the counter; 0 when nothing was signalled (or the descriptor is not readable).
  uint64_t Drain() const;

 private:
  explicit EventFd(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace crosvm::sys

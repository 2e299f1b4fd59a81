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
  // Takes a descriptor received from elsewhere and makes it non-blocking. It need not be an eventfd
  // (a hostile peer may send anything): one that is a pipe, socket or file is kept but never
  // written to.
  static EventFd Adopt(UniqueFd fd);

  bool valid() const { return fd_.valid(); }
  const UniqueFd& fd() const { return fd_; }
  Result<EventFd> Dup() const;

  // Adds one. Never blocks; a counter at its maximum stays there, which signals as well.
  void Signal() const;
  // Reads and zeroes the counter; 0 when nothing was signalled (or the descriptor is not readable).
  uint64_t Drain() const;

 private:
  EventFd(UniqueFd fd, bool writable) : fd_(std::move(fd)), writable_(writable) {}
  UniqueFd fd_;
  // False for what cannot be an eventfd: Signal() then does nothing.
  bool writable_ = false;
};

}  // namespace crosvm::sys

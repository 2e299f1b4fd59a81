// eventfd(2): the doorbell between the VMM, KVM (ioeventfd, irqfd) and device processes.
#pragma once

#include <cstdint>

#include "sys/fd.h"

namespace crosvm::sys {

class EventFd {
 public:
  EventFd() = default;
  // Close-on-exec, counter 0; for giving away. Whoever has it too shares its O_NONBLOCK and may
  // clear that, so it is not relied on: Drain() waits for nobody. Signal() looks for room first; it
  // is held only by one who fills the counter between that look and the write, as a device process
  // of ours cannot (jail/policies/).
  static Result<EventFd> Create();
  // Never given to another process, hence faster and with fewer system calls. Device processes
  // depend on that: preadv2 is not in their policies.
  static Result<EventFd> CreatePrivate();
  // Takes a descriptor received from elsewhere and makes it non-blocking. It need not be an eventfd
  // (a hostile peer may send anything): one that is a pipe, socket or file is kept but never
  // written to. Its sender can make us wait by clearing the flag again, so it is for a process that
  // serves this sender and nobody else.
  static EventFd Adopt(UniqueFd fd);

  bool valid() const { return fd_.valid(); }
  const UniqueFd& fd() const { return fd_; }
  Result<EventFd> Dup() const;

  // Adds one. Does not block; a counter at its maximum stays there, which signals as well.
  void Signal() const;
  // Reads and zeroes the counter; 0 when nothing was signalled (or the descriptor is not readable).
  uint64_t Drain() const;

 private:
  EventFd(UniqueFd fd, bool writable, bool guarded)
      : fd_(std::move(fd)), writable_(writable), guarded_(guarded) {}
  static Result<EventFd> Make(bool guarded);

  UniqueFd fd_;
  // False for what cannot be an eventfd: Signal() then does nothing.
  bool writable_ = false;
  // O_NONBLOCK is not relied on.
  bool guarded_ = false;
};

}  // namespace crosvm::sys

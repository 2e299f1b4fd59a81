// epoll(7), level-triggered; the token of a descriptor is 64 bits of the caller's.
#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <span>

#include "sys/fd.h"

namespace crosvm::sys {

class Epoll {
 public:
  static Result<Epoll> Create();

  Status Add(BorrowedFd fd, uint32_t events, uint64_t token) const;
  Status Modify(BorrowedFd fd, uint32_t events, uint64_t token) const;
  Status Remove(BorrowedFd fd) const;
  // Waits at most `timeout_ms` (-1: for ever); EINTR returns 0 events.
  Result<size_t> Wait(std::span<epoll_event> events, int timeout_ms) const;

 private:
  UniqueFd fd_;
};

}  // namespace crosvm::sys

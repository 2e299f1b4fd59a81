// Owners and borrows of file descriptors. No `int fd` stands in a signature outside sys/.
#pragma once

#include <unistd.h>

#include <utility>

#include "base/result.h"

namespace crosvm::sys {

// Owns a descriptor and closes it. Every descriptor of ours is close-on-exec from its creation.
class [[nodiscard]] UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) Reset(std::exchange(other.fd_, -1));
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { Reset(); }

  bool valid() const { return fd_ >= 0; }
  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }
  // Closes; a failing close of a valid descriptor is a double close elsewhere and aborts (EBADF
  // only).
  void Reset(int fd = -1);

  // A second descriptor of the same open file description, close-on-exec.
  Result<UniqueFd> Dup() const;

 private:
  int fd_ = -1;
};

// A descriptor that somebody else keeps open for as long as the borrow is used. Cheap to copy.
class BorrowedFd {
 public:
  BorrowedFd() = default;
  BorrowedFd(const UniqueFd& fd) : fd_(fd.get()) {}  // NOLINT: implicit by design
  explicit BorrowedFd(int fd) : fd_(fd) {}

  bool valid() const { return fd_ >= 0; }
  int get() const { return fd_; }
  Result<UniqueFd> Dup() const;

 private:
  int fd_ = -1;
};

// Calls `call` again for as long as it fails with EINTR.
template <typename Call>
auto RetryEintr(Call&& call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result == -1 && errno == EINTR);
  return result;
}

}  // namespace crosvm::sys

#include "sys/epoll.h"

#include "base/check.h"

namespace crosvm::sys {
namespace {

Status Control(BorrowedFd epoll, int operation, BorrowedFd fd, uint32_t events, uint64_t token,
               const char* doing) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = token;
  if (epoll_ctl(epoll.get(), operation, fd.get(), &event) == -1) return FailErrno("{}", doing);
  return {};
}

}  // namespace

Result<Epoll> Epoll::Create() {
  Epoll epoll;
  epoll.fd_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.fd_.valid()) return FailErrno("creating an epoll instance");
  return epoll;
}

Status Epoll::Add(BorrowedFd fd, uint32_t events, uint64_t token) const {
  return Control(fd_, EPOLL_CTL_ADD, fd, events, token, "watching a descriptor");
}

Status Epoll::Modify(BorrowedFd fd, uint32_t events, uint64_t token) const {
  return Control(fd_, EPOLL_CTL_MOD, fd, events, token, "changing a watch");
}

Status Epoll::Remove(BorrowedFd fd) const {
  return Control(fd_, EPOLL_CTL_DEL, fd, 0, 0, "ending a watch");
}

Result<size_t> Epoll::Wait(std::span<epoll_event> events, int timeout_ms) const {
  CHECK(!events.empty());
  const int count =
      epoll_wait(fd_.get(), events.data(), static_cast<int>(events.size()), timeout_ms);
  if (count >= 0) return static_cast<size_t>(count);
  if (errno == EINTR) return size_t{0};
  return FailErrno("epoll_wait");
}

}  // namespace crosvm::sys

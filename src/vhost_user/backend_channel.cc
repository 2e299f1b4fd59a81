#include "vhost_user/backend_channel.h"

#include <poll.h>
#include <sys/socket.h>

#include <utility>

namespace crosvm::vhost_user {
namespace {

ShmemMapping MappingOf(const virtio::SharedMemoryRange& range, uint64_t file_offset,
                       uint64_t flags) {
  return {.region = range.region,
          .padding = {},
          .file_offset = file_offset,
          .offset = range.offset,
          .length = range.length,
          .flags = flags};
}

}  // namespace

BackendChannel::BackendChannel(sys::UnixSocket socket, bool shared_memory,
                               std::chrono::milliseconds timeout)
    : socket_(std::move(socket)), shared_memory_(shared_memory), timeout_(timeout) {
}

void BackendChannel::Close() {
  closed_ = true;
  // Not closed: a thread may be waiting on it. It wakes up.
  (void)shutdown(socket_.fd().get(), SHUT_RDWR);
}

std::unexpected<Error> BackendChannel::Break(Error why) {
  Close();
  return std::unexpected(std::move(why));
}

Status BackendChannel::Send(BackendRequest request, uint32_t flags,
                            std::span<const uint8_t> payload,
                            std::span<const sys::BorrowedFd> fds) {
  MutexLock lock(send_mutex_);
  return SendMessage(socket_, static_cast<uint32_t>(request), flags, payload, fds);
}

void BackendChannel::NotifyConfigChanged() {
  const Status sent = Send(BackendRequest::kConfigChange, 0, {}, {});
  // Nothing of it was sent when it was too much; a part of it spoils what follows.
  if (!sent.has_value() && sent.error().kind() != ErrorKind::kBusy) Close();
}

Status BackendChannel::Map(const virtio::SharedMemoryRange& range, sys::BorrowedFd file,
                           uint64_t file_offset, bool writable) {
  const sys::BorrowedFd fds[] = {file};
  return Call(BackendRequest::kShmemMap,
              MappingOf(range, file_offset, writable ? kShmemWritable : 0), fds);
}

Status BackendChannel::Unmap(const virtio::SharedMemoryRange& range) {
  return Call(BackendRequest::kShmemUnmap, MappingOf(range, 0, 0), {});
}

Status BackendChannel::Call(BackendRequest request, const ShmemMapping& mapping,
                            std::span<const sys::BorrowedFd> fds) {
  if (!shared_memory_) {
    return Fail(ErrorKind::kUnsupported, "the front-end has no shared memory");
  }
  MutexLock lock(call_mutex_);
  if (closed_) return Fail(ErrorKind::kDisconnected, "the back-end channel is closed");
  if (Status sent = Send(request, kFlagNeedReply, BytesOf(mapping), fds); !sent.has_value()) {
    return Break(std::move(sent).error());
  }
  Result<Message> reply = ReceiveReply();
  if (!reply.has_value()) return Break(std::move(reply).error());
  const Result<U64> result = reply->As<U64>();
  if (reply->request != static_cast<uint32_t>(request) || !reply->is_reply() ||
      !result.has_value() || !reply->fds.empty()) {
    return Break(MakeError(ErrorKind::kProtocol, "bad answer on the back-end channel"));
  }
  if (result->value.value() == 0) return {};
  return Fail(ErrorKind::kInvalidArgument, "the front-end refuses the range");
}

Result<Message> BackendChannel::ReceiveReply() {
  const auto deadline = std::chrono::steady_clock::now() + timeout_;
  while (true) {
    std::optional<Message> message = TRY(reader_.Read(socket_));
    if (message) return *std::move(message);
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      return Fail(ErrorKind::kTimedOut, "no answer on the back-end channel within {} ms",
                  timeout_.count());
    }
    pollfd wait{.fd = socket_.fd().get(), .events = POLLIN, .revents = 0};
    if (poll(&wait, 1, static_cast<int>(left.count())) < 0 && errno != EINTR) {
      return FailErrno("waiting for the front-end");
    }
  }
}

}  // namespace crosvm::vhost_user

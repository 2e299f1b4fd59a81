// The device process' end of the back-end channel (SET_BACKEND_REQ_FD): what a device says to its
// front-end unasked. The configuration has changed; map this file into my shared memory.
#pragma once

#include <atomic>
#include <chrono>

#include "base/mutex.h"
#include "base/result.h"
#include "sys/socket.h"
#include "vhost_user/message.h"
#include "virtio/device.h"

namespace crosvm::vhost_user {

// Any thread. Requests with an answer wait for it one after the other, each within a timeout. The
// front-end is not trusted to answer, nor to answer sense: after a failure of the channel itself
// every call fails at once.
class BackendChannel final : public virtio::SharedMemoryMapper {
 public:
  // A non-blocking stream socket. Without `shared_memory` (SHMEM and REPLY_ACK were negotiated),
  // Map() and Unmap() are kUnsupported.
  BackendChannel(sys::UnixSocket socket, bool shared_memory,
                 std::chrono::milliseconds timeout = std::chrono::seconds(10));

  // Lost when the front-end does not read: it has a notice waiting already.
  void NotifyConfigChanged();
  Status Map(const virtio::SharedMemoryRange& range, sys::BorrowedFd file, uint64_t file_offset,
             bool writable) override;
  Status Unmap(const virtio::SharedMemoryRange& range) override;

  // The connection ends: calls that wait fail now, and all that follow.
  void Close();

 private:
  Status Call(BackendRequest request, const ShmemMapping& mapping,
              std::span<const sys::BorrowedFd> fds);
  Status Send(BackendRequest request, uint32_t flags, std::span<const uint8_t> payload,
              std::span<const sys::BorrowedFd> fds);
  Result<Message> ReceiveReply() CROSVM_REQUIRES(call_mutex_);
  // As Close(), and returns `why`.
  std::unexpected<Error> Break(Error why);

  const sys::UnixSocket socket_;
  const bool shared_memory_;
  const std::chrono::milliseconds timeout_;
  // ORDERING: a hint; the socket that was shut down decides.
  std::atomic<bool> closed_{false};

  // From a request to its answer.
  Mutex call_mutex_;
  MessageReader reader_ CROSVM_GUARDED_BY(call_mutex_);
  // For the length of one message, so that they do not mix.
  Mutex send_mutex_;
};

}  // namespace crosvm::vhost_user

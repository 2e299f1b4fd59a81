// The messages of a Frontend: sent and answered before the deadline of the call that they are part
// of.
#include <poll.h>

#include <utility>

#include "vhost_user/frontend.h"

namespace crosvm::vhost_user {

Result<bool> Frontend::WaitForSocket(short events) {
  // A peer that sends byte by byte gains no time.
  const std::chrono::nanoseconds left = deadline_ - std::chrono::steady_clock::now();
  if (left.count() <= 0) {
    return Fail(ErrorKind::kTimedOut, "no answer within {} ms", timeout_.count());
  }
  pollfd waits[2] = {{.fd = socket_.fd().get(), .events = events, .revents = 0},
                     {.fd = -1, .events = POLLIN, .revents = 0}};
  if (Has(kProtocolShmem)) {
    MutexLock lock(channel_mutex_);
    if (channel_open_) waits[1].fd = backend_channel_.fd().get();
  }
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  const timespec timeout{.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
  if (ppoll(waits, 2, &timeout, nullptr) < 0) {
    if (errno == EINTR) return false;
    return FailErrno("waiting for {}", options_.name);
  }
  if (waits[1].revents != 0) {
    MutexLock lock(channel_mutex_);
    TRY(ServeBackendChannel());
  }
  return waits[0].revents != 0;
}

Status Frontend::Send(Request request, uint32_t flags, std::span<const uint8_t> payload,
                      std::span<const sys::BorrowedFd> fds) {
  TRY(CheckAlive());
  const auto number = static_cast<uint32_t>(request);
  while (true) {
    Status sent = SendMessage(socket_, number, flags, payload, fds);
    if (sent) return {};
    if (sent.error().kind() == ErrorKind::kBusy) {
      const Result<bool> writable = WaitForSocket(POLLOUT);
      if (writable) continue;
      sent = std::unexpected(writable.error().Clone());
    }
    return std::unexpected(Break(std::move(sent).error().Context(RequestName(number))));
  }
}

Status Frontend::Set(Request request, std::span<const uint8_t> payload,
                     std::span<const sys::BorrowedFd> fds) {
  const bool acknowledged = Has(kProtocolReplyAck);
  const auto number = static_cast<uint32_t>(request);
  TRY(Send(request, acknowledged ? kFlagNeedReply : 0, payload, fds));
  if (!acknowledged) return {};
  const Message reply = TRY(ReceiveReply(request));
  const Result<U64> result = reply.As<U64>();
  if (!result || !reply.fds.empty()) {
    return std::unexpected(
        Break(MakeError(ErrorKind::kProtocol, "bad acknowledgement of {}", RequestName(number))));
  }
  if (result->value.value() != 0) {
    return Fail(ErrorKind::kProtocol, "{} refuses {}", options_.name, RequestName(number));
  }
  return {};
}

Result<Message> Frontend::Get(Request request, std::span<const uint8_t> payload) {
  TRY(Send(request, 0, payload, {}));
  return ReceiveReply(request);
}

Result<Message> Frontend::ReceiveReply(Request request) {
  const auto number = static_cast<uint32_t>(request);
  const auto broken = [&](Error why) CROSVM_REQUIRES(mutex_) {
    return std::unexpected(Break(std::move(why).Context(RequestName(number))));
  };
  while (true) {
    const Result<bool> ready = WaitForSocket(POLLIN);
    if (!ready) return broken(ready.error().Clone());
    if (!*ready) continue;
    // Takes what is there and does not wait for more.
    Result<std::optional<Message>> message = reader_.Read(socket_);
    if (!message) return broken(std::move(message).error());
    if (!*message) continue;
    Message& reply = **message;
    if (reply.request != number || !reply.is_reply()) {
      return broken(MakeError(ErrorKind::kProtocol, "answered with {} (flags {:#x})",
                              RequestName(reply.request), reply.flags));
    }
    return std::move(reply);
  }
}

Result<uint64_t> Frontend::GetU64(Request request) {
  const Message reply = TRY(Get(request, {}));
  const Result<U64> value = reply.As<U64>();
  if (!value || !reply.fds.empty()) {
    return std::unexpected(Break(MakeError(ErrorKind::kProtocol, "bad answer to {}",
                                           RequestName(static_cast<uint32_t>(request)))));
  }
  return value->value.value();
}

}  // namespace crosvm::vhost_user

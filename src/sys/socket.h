// Unix sockets that carry descriptors. SOCK_SEQPACKET for our own channels (one message, one
// packet), SOCK_STREAM for vhost-user. Nothing here parses a message.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "sys/fd.h"

namespace crosvm::sys {

// Descriptors in one message, at most (SCM_RIGHTS). More are closed on arrival and fail the
// receive.
inline constexpr size_t kMaxFdsPerMessage = 32;

enum class SocketType : uint8_t { kStream, kSeqPacket, kDatagram };

struct Received {
  size_t bytes = 0;  // 0: the peer has closed
  std::vector<UniqueFd> fds;
};

class UnixSocket {
 public:
  UnixSocket() = default;
  explicit UnixSocket(UniqueFd fd) : fd_(std::move(fd)) {}

  static Result<std::pair<UnixSocket, UnixSocket>> Pair(SocketType type);
  // Paths longer than sun_path are reached through /proc/self/fd of their folder.
  static Result<UnixSocket> Connect(const std::string& path, SocketType type);

  bool valid() const { return fd_.valid(); }
  const UniqueFd& fd() const { return fd_; }
  UniqueFd TakeFd() { return std::move(fd_); }

  // One sendmsg(2), MSG_NOSIGNAL. A stream may take a part only; returns the number of bytes taken.
  // The descriptors go with the first byte. kDisconnected when the peer has closed, kBusy when it
  // would block (non-blocking socket).
  Result<size_t> Send(std::span<const uint8_t> data, std::span<const BorrowedFd> fds = {}) const;
  // Sends all of `data` (a stream may take several calls), the descriptors with the first part.
  // kBusy only when nothing was taken; kTimedOut when the peer stopped taking half way (the stream
  // is then of no more use).
  Status SendAll(std::span<const uint8_t> data, std::span<const BorrowedFd> fds = {}) const;

  // One recvmsg(2) with MSG_CMSG_CLOEXEC. A seqpacket longer than `buffer`, or more than
  // kMaxFdsPerMessage descriptors, is kProtocol (nothing leaks). kBusy when nothing is there
  // (non-blocking socket) or the receive timeout ran out.
  Result<Received> Receive(std::span<uint8_t> buffer) const;
  // The three below are for seqpackets. As Receive(), and the message stays: the next Receive() or
  // Discard() gets it again. The descriptors are further ones of the same files.
  Result<Received> Peek(std::span<uint8_t> buffer) const;
  // Where the next Peek() looks, in bytes from the first message on, each Peek() then moving on to
  // the next message (SO_PEEK_OFF); -1, as at first: always the first message. For all who have the
  // socket.
  Status SetPeekOffset(int offset) const;
  // Takes one message away with the descriptors in it, none of which is opened. kBusy when nothing
  // is there (non-blocking socket).
  Status Discard() const;
  // Receives until `buffer` is full; kDisconnected when the stream ends first. Descriptors of all
  // parts are collected, kMaxFdsPerMessage in all. kBusy only when nothing had come; kTimedOut when
  // the rest of a part did not.
  Result<Received> ReceiveAll(std::span<uint8_t> buffer) const;

  // SO_RCVTIMEO and SO_SNDTIMEO; zero means for ever.
  Status SetTimeouts(std::chrono::milliseconds timeout) const;

 private:
  Result<Received> ReceiveOnce(std::span<uint8_t> buffer, int flags) const;

  UniqueFd fd_;
};

// A listening Unix socket that removes its path when destroyed (only if it is still the one it
// made).
class UnixListener {
 public:
  UnixListener() = default;
  UnixListener(UnixListener&& other) noexcept;
  UnixListener& operator=(UnixListener&& other) noexcept;
  ~UnixListener();

  // The path must not exist: kAlreadyExists names it.
  static Result<UnixListener> Bind(const std::string& path, SocketType type);

  const UniqueFd& fd() const { return fd_; }
  const std::string& path() const { return path_; }
  Result<UnixSocket> Accept() const;

 private:
  void RemovePath();

  UniqueFd fd_;
  std::string path_;
  uint64_t device_ = 0;
  uint64_t inode_ = 0;
};

}  // namespace crosvm::sys

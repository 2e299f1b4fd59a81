// One vhost-user message and how it is read from and written to a stream socket. Used by both ends.
#pragma once

#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/socket.h"
#include "vhost_user/protocol.h"

namespace crosvm::vhost_user {

// What a peer has sent: the size is below kMaxPayload, the version is right, nothing else was
// checked.
struct Message {
  uint32_t request = 0;
  uint32_t flags = 0;
  std::vector<uint8_t> payload;
  std::vector<sys::UniqueFd> fds;

  bool is_reply() const { return (flags & kFlagReply) != 0; }
  bool needs_reply() const { return (flags & kFlagNeedReply) != 0; }

  // kProtocol when the payload does not have exactly the size of T.
  template <typename T>
  Result<T> As() const {
    if (payload.size() != sizeof(T)) return WrongSize(sizeof(T));
    return Front<T>();
  }
  // The T at the start of the payload; kProtocol when it is shorter.
  template <typename T>
  Result<T> Front() const {
    static_assert(std::is_trivially_copyable_v<T>);
    if (payload.size() < sizeof(T)) return WrongSize(sizeof(T));
    T value{};
    std::memcpy(&value, payload.data(), sizeof(T));
    return value;
  }

 private:
  std::unexpected<Error> WrongSize(size_t wanted) const;
};

// Text for messages: "SET_MEM_TABLE", "request 99".
std::string RequestName(uint32_t request);

template <typename T>
std::span<const uint8_t> BytesOf(const T& value) {
  // SAFETY: T is a wire struct of byte-aligned fields without padding.
  return {reinterpret_cast<const uint8_t*>(&value), sizeof(T)};
}

// Writes one message in one go. kBusy when a non-blocking socket or the send timeout did not let it
// through: the stream is then unusable.
Status SendMessage(const sys::UnixSocket& socket, uint32_t request, uint32_t flags,
                   std::span<const uint8_t> payload, std::span<const sys::BorrowedFd> fds = {});

// Assembles messages from a stream. After an error the stream is unusable.
class MessageReader {
 public:
  // One or more receives. Nothing when the message is not complete (non-blocking socket or receive
  // timeout). kProtocol on a wrong version, an absurd length or too many descriptors; kDisconnected
  // at the end of the stream.
  Result<std::optional<Message>> Read(const sys::UnixSocket& socket);
  // True when part of a message has arrived.
  bool in_message() const { return header_bytes_ > 0; }

 private:
  // Continues to fill `buffer`, which has `have` bytes already; false when not complete yet.
  Result<bool> Fill(const sys::UnixSocket& socket, std::span<uint8_t> buffer, size_t& have);

  Header header_;
  size_t header_bytes_ = 0;
  size_t payload_bytes_ = 0;
  Message message_;
};

}  // namespace crosvm::vhost_user

// Typed channels: one message in one SOCK_SEQPACKET packet with up to 32 descriptors. CBOR between
// our own processes, JSON on the control socket. Used by both sides; one thread at a time.
//
//   Channel<Command, Reply> channel(std::move(socket));          // JsonChannel<…> for JSON
//   TRY(channel.Send(Start{.image = fds.Put(std::move(file))}, fds));
//   auto [reply, fds] = TRY(channel.Receive());
//
// With an EventLoop: sys::SetNonBlocking(channel.fd(), true), watch channel.fd(), and call
// Receive() until it is kBusy. The peer is not trusted: whatever it sends, Receive() returns a
// valid message or an error, and no descriptor leaks. After kProtocol or kInvalidArgument the
// packet is gone and the channel is still in step; the owner decides.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "codec/cbor.h"
#include "codec/fd_table.h"
#include "codec/json.h"
#include "sys/socket.h"

namespace crosvm::codec {

inline constexpr size_t kMaxMessageBytes = 64 * 1024;

struct Packet {
  std::span<const uint8_t> bytes;  // in the socket's buffer: until the next Receive()
  FdTable fds;
};

// The untyped half: bounds, and errors for what is not a packet.
class PacketSocket {
 public:
  PacketSocket() = default;
  explicit PacketSocket(sys::UnixSocket socket) : socket_(std::move(socket)) {}

  bool valid() const { return socket_.valid(); }
  const sys::UniqueFd& fd() const { return socket_.fd(); }

  // kInvalidArgument when the message is too large; otherwise as UnixSocket::Send.
  Status Send(std::span<const uint8_t> bytes, std::span<const sys::BorrowedFd> fds) const;
  // kDisconnected when the peer has closed; kBusy when nothing is there (non-blocking) or the
  // timeout ran out.
  Result<Packet> Receive();
  // For blocking use; zero means for ever.
  Status SetTimeout(std::chrono::milliseconds timeout) const {
    return socket_.SetTimeouts(timeout);
  }

 private:
  sys::UnixSocket socket_;
  std::unique_ptr<uint8_t[]> buffer_;  // kMaxMessageBytes, made at the first Receive()
};

struct CborForm {
  template <typename T>
  static std::vector<uint8_t> Write(const T& message) {
    return ToCbor(message);
  }
  template <typename T>
  static Result<T> Read(std::span<const uint8_t> bytes, size_t fd_count) {
    return FromCbor<T>(bytes, fd_count);
  }
};

struct JsonForm {
  template <typename T>
  static std::string Write(const T& message) {
    return ToJson(message);
  }
  template <typename T>
  static Result<T> Read(std::span<const uint8_t> bytes, size_t fd_count) {
    // SAFETY: characters may alias anything.
    return FromJson<T>({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, fd_count);
  }
};

template <typename T>
struct Incoming {
  T message;
  FdTable fds;  // what the message does not name is closed with it
};

template <typename SendType, typename ReceiveType, typename Form = CborForm>
class Channel {
 public:
  Channel() = default;
  explicit Channel(sys::UnixSocket socket) : packets_(std::move(socket)) {}

  bool valid() const { return packets_.valid(); }
  const sys::UniqueFd& fd() const { return packets_.fd(); }
  Status SetTimeout(std::chrono::milliseconds timeout) const {
    return packets_.SetTimeout(timeout);
  }

  Status Send(const SendType& message) const { return Send(message, FdTable()); }
  // The descriptors are duplicated into the packet; `fds` may be dropped afterwards.
  Status Send(const SendType& message, const FdTable& fds) const {
    const auto text = Form::Write(message);
    // SAFETY: bytes of a string or of a byte vector.
    return packets_.Send({reinterpret_cast<const uint8_t*>(text.data()), text.size()},
                         fds.Borrow());
  }

  Result<Incoming<ReceiveType>> Receive() {
    Packet packet = TRY(packets_.Receive());
    ReceiveType message = TRY(Form::template Read<ReceiveType>(packet.bytes, packet.fds.size()));
    return Incoming<ReceiveType>{std::move(message), std::move(packet.fds)};
  }

 private:
  PacketSocket packets_;
};

template <typename SendType, typename ReceiveType>
using JsonChannel = Channel<SendType, ReceiveType, JsonForm>;

}  // namespace crosvm::codec

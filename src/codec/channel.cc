#include "codec/channel.h"

namespace crosvm::codec {

Status PacketSocket::Send(std::span<const uint8_t> bytes,
                          std::span<const sys::BorrowedFd> fds) const {
  if (bytes.size() > kMaxMessageBytes) {
    return Fail(ErrorKind::kInvalidArgument, "a message of {} bytes is larger than {}",
                bytes.size(), kMaxMessageBytes);
  }
  if (fds.size() > sys::kMaxFdsPerMessage) {
    return Fail(ErrorKind::kInvalidArgument, "a message with {} descriptors; at most {} can travel",
                fds.size(), sys::kMaxFdsPerMessage);
  }
  const size_t sent = TRY(socket_.Send(bytes, fds));
  // A packet is taken whole or not at all.
  if (sent != bytes.size()) {
    return Fail(ErrorKind::kInternal, "{} of {} bytes of a packet were sent", sent, bytes.size());
  }
  return {};
}

Result<Packet> PacketSocket::Receive() {
  if (!buffer_) buffer_ = std::make_unique_for_overwrite<uint8_t[]>(kMaxMessageBytes);
  sys::Received received = TRY(socket_.Receive({buffer_.get(), kMaxMessageBytes}));
  if (received.bytes == 0) return Fail(ErrorKind::kDisconnected, "the peer has closed the channel");
  return Packet{{buffer_.get(), received.bytes}, FdTable(std::move(received.fds))};
}

}  // namespace crosvm::codec

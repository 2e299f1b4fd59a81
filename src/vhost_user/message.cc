#include "vhost_user/message.h"

#include <utility>

namespace crosvm::vhost_user {

std::string RequestName(uint32_t request) {
  switch (static_cast<Request>(request)) {
    case Request::kGetFeatures:
      return "GET_FEATURES";
    case Request::kSetFeatures:
      return "SET_FEATURES";
    case Request::kSetOwner:
      return "SET_OWNER";
    case Request::kResetOwner:
      return "RESET_OWNER";
    case Request::kSetMemTable:
      return "SET_MEM_TABLE";
    case Request::kSetVringNum:
      return "SET_VRING_NUM";
    case Request::kSetVringAddr:
      return "SET_VRING_ADDR";
    case Request::kSetVringBase:
      return "SET_VRING_BASE";
    case Request::kGetVringBase:
      return "GET_VRING_BASE";
    case Request::kSetVringKick:
      return "SET_VRING_KICK";
    case Request::kSetVringCall:
      return "SET_VRING_CALL";
    case Request::kSetVringErr:
      return "SET_VRING_ERR";
    case Request::kGetProtocolFeatures:
      return "GET_PROTOCOL_FEATURES";
    case Request::kSetProtocolFeatures:
      return "SET_PROTOCOL_FEATURES";
    case Request::kGetQueueNum:
      return "GET_QUEUE_NUM";
    case Request::kSetVringEnable:
      return "SET_VRING_ENABLE";
    case Request::kSetBackendReqFd:
      return "SET_BACKEND_REQ_FD";
    case Request::kGetConfig:
      return "GET_CONFIG";
    case Request::kSetConfig:
      return "SET_CONFIG";
    case Request::kGetInflightFd:
      return "GET_INFLIGHT_FD";
    case Request::kSetInflightFd:
      return "SET_INFLIGHT_FD";
    case Request::kResetDevice:
      return "RESET_DEVICE";
    case Request::kSetStatus:
      return "SET_STATUS";
    case Request::kGetStatus:
      return "GET_STATUS";
    case Request::kGetShmemConfig:
      return "GET_SHMEM_CONFIG";
  }
  return fmt::format("request {}", request);
}

std::unexpected<Error> Message::WrongSize(size_t wanted) const {
  return Fail(ErrorKind::kProtocol, "{} has {} bytes of payload, not {}", RequestName(request),
              payload.size(), wanted);
}

Status SendMessage(const sys::UnixSocket& socket, uint32_t request, uint32_t flags,
                   std::span<const uint8_t> payload, std::span<const sys::BorrowedFd> fds) {
  const Header header{.request = request,
                      .flags = flags | kFlagVersion,
                      .size = static_cast<uint32_t>(payload.size())};
  // One buffer, so that the descriptors go with the first byte and the peer is woken once.
  std::vector<uint8_t> bytes(sizeof(header) + payload.size());
  std::memcpy(bytes.data(), &header, sizeof(header));
  if (!payload.empty()) std::memcpy(bytes.data() + sizeof(header), payload.data(), payload.size());
  return socket.SendAll(bytes, fds);
}

Result<bool> MessageReader::Fill(const sys::UnixSocket& socket, std::span<uint8_t> buffer,
                                 size_t& have) {
  while (have < buffer.size()) {
    Result<sys::Received> received = socket.Receive(buffer.subspan(have));
    if (!received) {
      if (received.error().kind() == ErrorKind::kBusy) return false;
      return std::unexpected(std::move(received).error());
    }
    if (received->bytes == 0) {
      return Fail(ErrorKind::kDisconnected, "the peer closed the connection{}",
                  in_message() ? " inside a message" : "");
    }
    have += received->bytes;
    for (sys::UniqueFd& fd : received->fds) message_.fds.push_back(std::move(fd));
    if (message_.fds.size() > sys::kMaxFdsPerMessage) {
      return Fail(ErrorKind::kProtocol, "a message with more than {} descriptors",
                  sys::kMaxFdsPerMessage);
    }
  }
  return true;
}

Result<std::optional<Message>> MessageReader::Read(const sys::UnixSocket& socket) {
  if (header_bytes_ < sizeof(header_)) {
    // SAFETY: a struct of byte-aligned integers, any bytes are valid.
    const std::span bytes(reinterpret_cast<uint8_t*>(&header_), sizeof(header_));
    const bool complete = TRY(Fill(socket, bytes, header_bytes_));
    if (!complete) return std::nullopt;
    message_.request = header_.request;
    message_.flags = header_.flags;
    // TRUST: the length is checked before anything is allocated by it.
    if (header_.size > kMaxPayload) {
      return Fail(ErrorKind::kProtocol, "{} says it has {} bytes of payload",
                  RequestName(message_.request), header_.size.value());
    }
    if ((message_.flags & kFlagVersionMask) != kFlagVersion) {
      return Fail(ErrorKind::kProtocol, "{} has version {}", RequestName(message_.request),
                  message_.flags & kFlagVersionMask);
    }
    message_.payload.resize(header_.size);
  }
  const bool complete = TRY(Fill(socket, message_.payload, payload_bytes_));
  if (!complete) return std::nullopt;
  header_bytes_ = 0;
  payload_bytes_ = 0;
  return std::exchange(message_, Message());
}

}  // namespace crosvm::vhost_user

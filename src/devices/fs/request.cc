#include "devices/fs/request.h"

namespace crosvm::devices::fs {

using shared_dir::OkOrErrno;
using shared_dir::OrErrno;
using shared_dir::Refuse;

std::optional<Request> Request::Parse(std::span<const memory::GuestSlice> readable,
                                      std::span<const memory::GuestSlice> writable,
                                      WorkerBuffers& buffers) {
  Request request(readable, writable, buffers);
  const std::optional<fuse_in_header> header = request.in_.Read<fuse_in_header>();
  if (!header) return std::nullopt;
  request.header_ = *header;
  request.has_room_for_header_ = request.out_.Skip(sizeof(fuse_out_header));
  return request;
}

OrErrno<std::string_view> Request::TakeRest() {
  if (in_.remaining() > kMaxArguments) return Refuse(EINVAL);
  std::vector<char>& buffer = buffers_->arguments;
  buffer.resize(in_.remaining());
  // SAFETY: bytes as bytes.
  if (!in_.Read({reinterpret_cast<uint8_t*>(buffer.data()), buffer.size()})) return Refuse(EINVAL);
  return std::string_view(buffer.data(), buffer.size());
}

OrErrno<std::string_view> Request::TakeString(std::string_view& rest) {
  const size_t end = rest.find('\0');
  if (end == std::string_view::npos) return Refuse(EINVAL);
  const std::string_view text = rest.substr(0, end);
  rest.remove_prefix(end + 1);
  return text;
}

std::span<iovec> Request::ToIovecs() {
  std::vector<iovec>& iovecs = buffers_->iovecs;
  iovecs.clear();
  for (const memory::GuestSlice& slice : buffers_->slices) iovecs.push_back(slice.ToIovec());
  return iovecs;
}

OrErrno<std::span<iovec>> Request::TakeData(uint64_t bytes) {
  buffers_->slices.clear();
  if (!in_.Take(bytes, buffers_->slices)) return Refuse(EINVAL);
  return ToIovecs();
}

OkOrErrno Request::Put(std::span<const uint8_t> bytes) {
  if (!out_.Write(bytes)) return Refuse(ERANGE);
  return {};
}

OkOrErrno Request::Put(std::span<const char> bytes) {
  // SAFETY: bytes as bytes.
  return Put(std::span(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()));
}

std::span<iovec> Request::Room(uint64_t bytes) {
  buffers_->slices.clear();
  direct_ = 0;
  if (!out_.Take(std::min(bytes, out_.remaining()), buffers_->slices)) return {};
  return ToIovecs();
}

uint32_t Request::Finish(OkOrErrno result) {
  if (!has_room_for_header_) return 0;
  fuse_out_header header{.len = sizeof(fuse_out_header), .error = 0, .unique = header_.unique};
  if (!result.has_value()) {
    header.error = -result.error().value;
  } else if (direct_) {
    header.len += static_cast<uint32_t>(*direct_);
  } else {
    // Skip() over the header counts as written.
    header.len = static_cast<uint32_t>(std::max<uint64_t>(out_.written(), sizeof(header)));
  }
  return head_.Write(header) ? header.len : 0;
}

}  // namespace crosvm::devices::fs

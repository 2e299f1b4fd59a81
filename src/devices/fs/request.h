// One FUSE request in a chain: its header and arguments, each copied out of guest memory once, and
// the place of its answer. On the stack of a worker.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "devices/fs/fs_wire.h"
#include "shared_dir/errno.h"
#include "shared_dir/identity.h"
#include "virtio/chain.h"

namespace crosvm::devices::fs {

// What a worker brings to every request: buffers that keep their memory.
struct WorkerBuffers {
  std::vector<char> arguments;
  std::vector<char> bytes;
  std::vector<memory::GuestSlice> slices;
  std::vector<iovec> iovecs;
};

class Request {
 public:
  // `buffers` outlives the request. Empty when there is no whole header.
  static std::optional<Request> Parse(std::span<const memory::GuestSlice> readable,
                                      std::span<const memory::GuestSlice> writable,
                                      WorkerBuffers& buffers);

  const fuse_in_header& header() const { return header_; }
  uint64_t node() const { return header_.nodeid; }
  WorkerBuffers& buffers() const { return *buffers_; }
  shared_dir::Caller caller(uint32_t umask) const {
    return {.user = header_.uid, .group = header_.gid, .umask = umask & 0777};
  }

  // The next fixed arguments; EINVAL when the guest sent less.
  template <typename T>
  shared_dir::OrErrno<T> Take() {
    const std::optional<T> value = in_.Read<T>();
    if (!value) return shared_dir::Refuse(EINVAL);
    return *value;
  }
  // All that is left, in the worker's buffer; EINVAL for more than kMaxArguments.
  shared_dir::OrErrno<std::string_view> TakeRest();
  // The next string that ends in NUL out of `rest`, which moves on.
  static shared_dir::OrErrno<std::string_view> TakeString(std::string_view& rest);
  // The next `bytes` of data as iovecs, to be written to a file; EINVAL when there are fewer.
  shared_dir::OrErrno<std::span<iovec>> TakeData(uint64_t bytes);

  // Bytes of answer that fit behind its header.
  uint64_t room() const { return out_.remaining(); }
  // The answer's next part; ERANGE when it does not fit.
  shared_dir::OkOrErrno Put(std::span<const uint8_t> bytes);
  shared_dir::OkOrErrno Put(std::span<const char> bytes);
  template <typename T>
  shared_dir::OkOrErrno PutStruct(const T& value) {
    if (!out_.Write(value)) return shared_dir::Refuse(ERANGE);
    return {};
  }
  // Room for at most `bytes` of answer as iovecs, to be read into; PutDone() tells how many it
  // became.
  std::span<iovec> Room(uint64_t bytes);
  void PutDone(uint64_t bytes) { direct_ = direct_.value_or(0) + bytes; }

  // Writes the answer's header. Returns the bytes of the chain that were written.
  uint32_t Finish(shared_dir::OkOrErrno result);

 private:
  Request(std::span<const memory::GuestSlice> readable,
          std::span<const memory::GuestSlice> writable, WorkerBuffers& buffers)
      : buffers_(&buffers), in_(readable), head_(writable), out_(writable) {}
  std::span<iovec> ToIovecs();

  WorkerBuffers* buffers_;
  fuse_in_header header_{};
  virtio::SliceReader in_;
  virtio::SliceWriter head_;
  virtio::SliceWriter out_;
  bool has_room_for_header_ = false;
  std::optional<uint64_t> direct_;  // once Room() was given
};

}  // namespace crosvm::devices::fs

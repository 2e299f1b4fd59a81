// Data between a file and a guest's buffers.
#pragma once

#include <limits.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <span>

#include "shared_dir/errno.h"

namespace crosvm::shared_dir {

inline uint64_t BytesOf(std::span<const iovec> pieces) {
  uint64_t bytes = 0;
  for (const iovec& piece : pieces) bytes += piece.iov_len;
  return bytes;
}

// What is left of the pieces when so much is done.
inline std::span<iovec> Advance(std::span<iovec> pieces, size_t bytes) {
  while (!pieces.empty() && bytes >= pieces[0].iov_len) {
    bytes -= pieces[0].iov_len;
    pieces = pieces.subspan(1);
  }
  if (!pieces.empty() && bytes > 0) {
    pieces[0].iov_base = static_cast<char*>(pieces[0].iov_base) + bytes;
    pieces[0].iov_len -= bytes;
  }
  return pieces;
}

// Any number of pieces by `call`, which is preadv(2) or pwritev(2) of a file: all of them, or up to
// the end of the file, or up to an error after a part. Uses the pieces up.
template <typename Call>
OrErrno<uint64_t> Transfer(std::span<iovec> pieces, uint64_t offset, Call&& call) {
  const uint64_t bytes = BytesOf(pieces);
  if (bytes > INT64_MAX || offset > INT64_MAX - bytes) return Refuse(EINVAL);
  uint64_t done = 0;
  while (!pieces.empty()) {
    const int batch = static_cast<int>(std::min<size_t>(pieces.size(), IOV_MAX));
    const ssize_t count = call(pieces.data(), batch, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && done == 0) return RefuseLast();
    if (count <= 0) break;
    done += static_cast<uint64_t>(count);
    pieces = Advance(pieces, static_cast<size_t>(count));
  }
  return done;
}

}  // namespace crosvm::shared_dir

#include "loader/file_range.h"

#include <sys/uio.h>

#include <algorithm>

#include "base/checked_math.h"

namespace crosvm::loader {
namespace {

// One system call's share, so that a length never meets the kernel's own limit of 2 GiB.
constexpr size_t kChunk = size_t{64} << 20;

}  // namespace

Status ReadIntoGuest(sys::BorrowedFd file, uint64_t offset, const memory::GuestSlice& to) {
  if (!CheckedAdd<uint64_t>(offset, to.size()) || offset + to.size() > INT64_MAX) {
    return Fail(ErrorKind::kInvalidArgument, "file offset {:#x} is out of range", offset);
  }
  size_t done = 0;
  while (done < to.size()) {
    const iovec part = to.Sub(done, kChunk).ToIovec();
    const ssize_t count = sys::RetryEintr(
        [&] { return preadv(file.get(), &part, 1, static_cast<off_t>(offset + done)); });
    if (count < 0)
      return FailErrno("reading {} bytes at offset {:#x}", part.iov_len, offset + done);
    if (count == 0) {
      return Fail(ErrorKind::kIo, "the file ends at offset {:#x}, {} bytes too early",
                  offset + done, to.size() - done);
    }
    done += static_cast<size_t>(count);
  }
  return {};
}

Status LoadRange(sys::BorrowedFd file, uint64_t offset, uint64_t length,
                 const memory::GuestMemory& memory, memory::GuestAddr at, std::string_view what) {
  const std::optional<memory::GuestSlice> slice = memory.Slice(at, length);
  if (!slice) {
    return Fail(
        ErrorKind::kInvalidArgument,
        "{} does not fit: {:#x} bytes at {:#x} are not all memory of the VM; give it more memory",
        what, length, at.value());
  }
  TRY_CONTEXT(ReadIntoGuest(file, offset, *slice), "loading {}", what);
  return {};
}

}  // namespace crosvm::loader

#include "sys/file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <limits>

namespace crosvm::sys {
namespace {

constexpr uint64_t kMaxOffset = static_cast<uint64_t>(std::numeric_limits<off_t>::max());

Status CheckOffset(uint64_t offset, size_t size) {
  if (offset > kMaxOffset || size > kMaxOffset - offset) {
    return Fail(ErrorKind::kInvalidArgument, "file offset {} is out of range", offset);
  }
  return {};
}

// Calls `step(data, size, done)` until `size` bytes are done, a step returns 0, or one fails.
template <typename Byte, typename Step>
Result<size_t> Repeat(std::span<Byte> buffer, const char* what, Step step) {
  size_t done = 0;
  while (done < buffer.size()) {
    const std::span<Byte> rest = buffer.subspan(done);
    const ssize_t moved = RetryEintr([&] { return step(rest.data(), rest.size(), done); });
    if (moved < 0) return FailErrno("{} {} bytes", what, buffer.size());
    if (moved == 0) break;
    done += static_cast<size_t>(moved);
  }
  return done;
}

Status WantAll(size_t done, size_t wanted) {
  if (done == wanted) return {};
  return Fail(ErrorKind::kIo, "writing {} bytes: only {} were taken", wanted, done);
}

}  // namespace

Result<UniqueFd> Open(const std::string& path, int flags, mode_t mode) {
  UniqueFd fd(RetryEintr([&] { return open(path.c_str(), flags | O_CLOEXEC, mode); }));
  if (!fd.valid()) return FailErrno("opening {}", path);
  return fd;
}

Result<struct stat> Stat(BorrowedFd fd) {
  struct stat info{};
  if (fstat(fd.get(), &info) == -1) return FailErrno("fstat");
  return info;
}

Result<uint64_t> FileSize(BorrowedFd fd) {
  const struct stat info = TRY(Stat(fd));
  if (S_ISREG(info.st_mode)) return static_cast<uint64_t>(info.st_size);
  if (!S_ISBLK(info.st_mode)) {
    return Fail(ErrorKind::kInvalidArgument, "neither a regular file nor a block device");
  }
  uint64_t size = 0;
  if (ioctl(fd.get(), BLKGETSIZE64, &size) == -1)
    return FailErrno("asking a block device its size");
  return size;
}

Result<size_t> ReadAll(BorrowedFd fd, std::span<uint8_t> buffer) {
  return Repeat(buffer, "reading",
                [&](uint8_t* data, size_t size, size_t) { return read(fd.get(), data, size); });
}

Result<size_t> PreadAll(BorrowedFd fd, std::span<uint8_t> buffer, uint64_t offset) {
  TRY(CheckOffset(offset, buffer.size()));
  return Repeat(buffer, "reading", [&](uint8_t* data, size_t size, size_t done) {
    return pread(fd.get(), data, size, static_cast<off_t>(offset + done));
  });
}

Status PreadExact(BorrowedFd fd, std::span<uint8_t> buffer, uint64_t offset) {
  const size_t done = TRY(PreadAll(fd, buffer, offset));
  if (done == buffer.size()) return {};
  return Fail(ErrorKind::kIo, "the file ends at byte {}, but {} bytes at {} were wanted",
              offset + done, buffer.size(), offset);
}

Status WriteAll(BorrowedFd fd, std::span<const uint8_t> data) {
  const size_t done = TRY(Repeat(data, "writing", [&](const uint8_t* rest, size_t size, size_t) {
    return write(fd.get(), rest, size);
  }));
  return WantAll(done, data.size());
}

Status WriteAll(BorrowedFd fd, std::string_view text) {
  // SAFETY: characters may be read as bytes.
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  return WriteAll(fd, std::span<const uint8_t>(bytes, text.size()));
}

Status PwriteAll(BorrowedFd fd, std::span<const uint8_t> data, uint64_t offset) {
  TRY(CheckOffset(offset, data.size()));
  const size_t done =
      TRY(Repeat(data, "writing", [&](const uint8_t* rest, size_t size, size_t before) {
        return pwrite(fd.get(), rest, size, static_cast<off_t>(offset + before));
      }));
  return WantAll(done, data.size());
}

Result<std::string> ReadFileToString(const std::string& path, size_t limit) {
  const UniqueFd fd = TRY(Open(path, O_RDONLY));
  std::string text;
  // Files of /proc say a size of 0, so the end is found by reading.
  while (text.size() <= limit) {
    const size_t before = text.size();
    const size_t step = std::min<size_t>(limit + 1 - before, 16 << 10);
    text.resize(before + step);
    // SAFETY: characters may be written as bytes; the span is the part just added.
    auto* bytes = reinterpret_cast<uint8_t*>(text.data()) + before;
    const size_t got = TRY_CONTEXT(ReadAll(fd, std::span(bytes, step)), "{}", path);
    text.resize(before + got);
    if (got < step) return text;
  }
  return Fail(ErrorKind::kInvalidArgument, "{} is longer than {} bytes", path, limit);
}

Status SetNonBlocking(BorrowedFd fd, bool on) {
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags == -1) return FailErrno("reading descriptor flags");
  const int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  if (fcntl(fd.get(), F_SETFL, wanted) == -1) return FailErrno("setting descriptor flags");
  return {};
}

}  // namespace crosvm::sys

// Files and paths: thin wrappers that name the path in their errors.
#pragma once

#include <sys/stat.h>
#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "sys/fd.h"

namespace crosvm::sys {

// open(2) with O_CLOEXEC added. The error reads "opening PATH: permission denied".
Result<UniqueFd> Open(const std::string& path, int flags, mode_t mode = 0);
Result<struct stat> Stat(BorrowedFd fd);
// Size in bytes of a regular file or a block device.
Result<uint64_t> FileSize(BorrowedFd fd);

// Reads until `buffer` is full or the end of the file; returns the number of bytes. EINTR is
// retried.
Result<size_t> ReadAll(BorrowedFd fd, std::span<uint8_t> buffer);
Result<size_t> PreadAll(BorrowedFd fd, std::span<uint8_t> buffer, uint64_t offset);
// Fails with kIo when the file ends first.
Status PreadExact(BorrowedFd fd, std::span<uint8_t> buffer, uint64_t offset);
Status WriteAll(BorrowedFd fd, std::span<const uint8_t> data);
Status WriteAll(BorrowedFd fd, std::string_view text);
Status PwriteAll(BorrowedFd fd, std::span<const uint8_t> data, uint64_t offset);
// A whole small file (/proc, /sys, configuration), at most `limit` bytes; longer is an error.
Result<std::string> ReadFileToString(const std::string& path, size_t limit = 1 << 20);

// Non-blocking on or off (O_NONBLOCK of the open file description).
Status SetNonBlocking(BorrowedFd fd, bool on);

}  // namespace crosvm::sys

#include "event/io_step.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <limits>

#include "base/checked_math.h"

namespace crosvm::event {
namespace {

constexpr uint64_t kMaxOffset = static_cast<uint64_t>(std::numeric_limits<off_t>::max());

// Zeroes for hosts without a better way. Page-aligned, for files opened with O_DIRECT. Written by
// nobody.
alignas(4096) std::array<uint8_t, 64 << 10> zeroes;
constexpr uint64_t kZeroBuffersPerWrite = 256;

// The ways to zero a range, in the order in which they are tried.
enum Attempt : uint8_t { kUnmap, kZeroRange, kWriteZeroBytes };

bool MovesBytes(const IoOp& op) {
  return op.kind == IoKind::kRead || op.kind == IoKind::kWrite;
}

bool HasRange(const IoOp& op) {
  return op.kind == IoKind::kPunchHole || op.kind == IoKind::kWriteZeroes;
}

// Empty when the operation's range cannot be one of a file.
std::optional<uint64_t> TotalBytes(const IoOp& op) {
  uint64_t total = 0;
  if (HasRange(op)) total = op.length;
  if (MovesBytes(op)) {
    if (op.buffers.size() > IOV_MAX) return std::nullopt;
    for (const iovec& buffer : op.buffers) {
      const auto sum = CheckedAdd(total, uint64_t{buffer.iov_len});
      if (!sum) return std::nullopt;
      total = *sum;
    }
  }
  if (!RangeFits(op.offset, total, kMaxOffset)) return std::nullopt;
  return total;
}

// The buffers after the first `progress` bytes.
std::span<const iovec> Rest(IoOp& op) {
  uint64_t skip = op.internal.progress;
  if (skip == 0) return op.buffers;
  size_t first = 0;
  while (first < op.buffers.size() && skip >= op.buffers[first].iov_len) {
    skip -= op.buffers[first++].iov_len;
  }
  const std::span<const iovec> left = op.buffers.subspan(first);
  op.internal.rest = std::make_unique<iovec[]>(left.size());
  const std::span<iovec> rest(op.internal.rest.get(), left.size());
  std::ranges::copy(left, rest.begin());
  if (!rest.empty()) {
    rest[0].iov_base = static_cast<uint8_t*>(rest[0].iov_base) + skip;
    rest[0].iov_len -= skip;
  }
  return rest;
}

std::span<const iovec> ZeroBuffers(IoOp& op) {
  const uint64_t left = op.internal.total - op.internal.progress;
  const uint64_t bytes = std::min<uint64_t>(left, kZeroBuffersPerWrite * zeroes.size());
  const size_t count = (bytes + zeroes.size() - 1) / zeroes.size();
  if (!op.internal.rest) op.internal.rest = std::make_unique<iovec[]>(kZeroBuffersPerWrite);
  const std::span<iovec> buffers(op.internal.rest.get(), count);
  uint64_t rest = bytes;
  for (iovec& buffer : buffers) {
    buffer = {zeroes.data(), std::min<uint64_t>(rest, zeroes.size())};
    rest -= buffer.iov_len;
  }
  return buffers;
}

bool IsUnsupported(int64_t result) {
  return result == -EOPNOTSUPP || result == -ENOSYS;
}

bool Ended(IoOp& op, int64_t result) {
  op.internal.rest.reset();
  op.result = result;
  return true;
}

bool FinishTransfer(IoOp& op, int64_t result) {
  IoOp::Internal& state = op.internal;
  const auto moved = static_cast<int64_t>(state.progress);
  // The rest of a read that stopped at an odd end of a file is refused under O_DIRECT: that end has
  // been reached too.
  if (op.kind == IoKind::kRead && result == -EINVAL && moved > 0) return Ended(op, moved);
  if (result < 0) return Ended(op, result);
  if (result == 0) {
    if (op.kind == IoKind::kRead || state.total == state.progress) return Ended(op, moved);
    // A write that takes nothing and reports no error would be tried for ever.
    return Ended(op, -EIO);
  }
  state.progress += static_cast<uint64_t>(result);
  if (state.progress < state.total) return false;
  return Ended(op, op.kind == IoKind::kWriteZeroes ? 0 : static_cast<int64_t>(state.total));
}

}  // namespace

bool Begin(IoOp& op) {
  op.internal = {};
  op.result = 0;
  const std::optional<uint64_t> total = TotalBytes(op);
  if (!total) {
    op.result = -EINVAL;
    return false;
  }
  op.internal.total = *total;
  op.internal.attempt = op.may_unmap ? kUnmap : kZeroRange;
  return true;
}

IoStep NextStep(IoOp& op) {
  const uint64_t offset = op.offset + op.internal.progress;
  switch (op.kind) {
    case IoKind::kRead:
      return {.call = IoStep::Call::kReadv, .buffers = Rest(op), .offset = offset};
    case IoKind::kWrite:
      return {.call = IoStep::Call::kWritev, .buffers = Rest(op), .offset = offset};
    case IoKind::kSync:
      return {.call = IoStep::Call::kFsync};
    case IoKind::kDataSync:
      return {.call = IoStep::Call::kFdatasync};
    case IoKind::kWriteZeroes:
      if (op.internal.attempt == kWriteZeroBytes) {
        return {.call = IoStep::Call::kWritev, .buffers = ZeroBuffers(op), .offset = offset};
      }
      if (op.internal.attempt == kZeroRange) {
        return {.call = IoStep::Call::kFallocate,
                .offset = op.offset,
                .length = op.length,
                .mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
      }
      break;
    case IoKind::kPunchHole:
      break;
  }
  return {.call = IoStep::Call::kFallocate,
          .offset = op.offset,
          .length = op.length,
          .mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE};
}

bool Finish(IoOp& op, int64_t result) {
  if (result == -EINTR) return false;
  if (MovesBytes(op)) return FinishTransfer(op, result);
  if (op.kind == IoKind::kWriteZeroes) {
    if (op.internal.attempt == kWriteZeroBytes) return FinishTransfer(op, result);
    if (IsUnsupported(result)) {
      ++op.internal.attempt;
      return false;
    }
  }
  return Ended(op, result);
}

int64_t RunStep(sys::BorrowedFd file, const IoStep& step) {
  const int fd = file.get();
  const int count = static_cast<int>(step.buffers.size());
  const auto offset = static_cast<off_t>(step.offset);
  ssize_t result = -1;
  switch (step.call) {
    case IoStep::Call::kReadv:
      result = preadv(fd, step.buffers.data(), count, offset);
      break;
    case IoStep::Call::kWritev:
      result = pwritev(fd, step.buffers.data(), count, offset);
      break;
    case IoStep::Call::kFsync:
      result = fsync(fd);
      break;
    case IoStep::Call::kFdatasync:
      result = fdatasync(fd);
      break;
    case IoStep::Call::kFallocate:
      result = fallocate(fd, step.mode, offset, static_cast<off_t>(step.length));
      break;
  }
  return result == -1 ? -int64_t{errno} : int64_t{result};
}

}  // namespace crosvm::event

// One IoOp as a sequence of system calls: what both engines of AsyncFile share. An operation is
// Begin(), then NextStep() and Finish() in turn until Finish() says so. Short transfers and missing
// features are thus handled in one place.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

#include "event/async_file.h"
#include "sys/fd.h"

namespace crosvm::event {

struct IoStep {
  enum class Call : uint8_t { kReadv, kWritev, kFsync, kFdatasync, kFallocate };
  Call call = Call::kReadv;
  std::span<const iovec> buffers;  // alive until Finish()
  uint64_t offset = 0;
  uint64_t length = 0;  // kFallocate
  int mode = 0;         // kFallocate
};

// Resets the result and what the implementation keeps. False: not to be tried, the result says why.
bool Begin(IoOp& op);
IoStep NextStep(IoOp& op);
// `result` is that of the step, a negative errno on failure. True: the operation has ended and has
// its result.
bool Finish(IoOp& op, int64_t result);

// Carries out one step, blocking.
int64_t RunStep(sys::BorrowedFd file, const IoStep& step);

}  // namespace crosvm::event

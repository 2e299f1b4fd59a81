// Asynchronous I/O on one file. Two implementations with the same behaviour, chosen at run time and
// tested by one typed suite: io_uring (UringFile) and a thread pool (PoolFile).
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>

#include "event/event_loop.h"
#include "sys/fd.h"

namespace crosvm::event {

enum class IoKind : uint8_t {
  kRead,
  kWrite,
  kSync,
  kDataSync,
  // Frees the range, which then reads as zeroes; -EOPNOTSUPP where the file system or device
  // cannot.
  kPunchHole,
  // The range, which must lie within the file, reads as zeroes afterwards; where the host has no
  // better way, zeroes are written.
  kWriteZeroes,
};

// One operation. The submitter owns it (usually inside its own request slab) and keeps it, its
// iovec array and the memory that these point to alive and unmoved until `done` has been called.
struct IoOp {
  IoKind kind = IoKind::kRead;
  uint64_t offset = 0;
  uint64_t length = 0;             // kPunchHole, kWriteZeroes
  std::span<const iovec> buffers;  // kRead, kWrite: at most IOV_MAX
  bool may_unmap = false;          // kWriteZeroes: deallocating the range is welcome
  // Result: bytes moved (0 for the other kinds), or a negative errno. Short reads and writes are
  // completed internally; a read that ends at the end of the file reports what it got.
  int64_t result = 0;
  // Called on the loop's thread, never from inside Submit(). The op may be reused or destroyed
  // inside; the loop must not be run inside.
  void (*done)(IoOp& op, void* context) = nullptr;
  void* context = nullptr;

  // For the implementation (io_step.h).
  struct Internal {
    uint64_t total = 0;
    uint64_t progress = 0;
    std::unique_ptr<iovec[]> rest;
    uint8_t attempt = 0;
    IoOp* next = nullptr;
  } internal;
};

class AsyncFile {
 public:
  virtual ~AsyncFile() = default;
  // Never fails here: every error comes by `done`. Operations may complete in any order. -EINVAL
  // for an offset or a length that no file can have.
  virtual void Submit(IoOp& op) = 0;
  // Tells the kernel of what was submitted since the last call; implementations may do it earlier.
  // Call once a batch.
  virtual void Flush() = 0;
  // Delivers what has ended already, without a turn of the loop: right after Flush() that is often
  // everything (data in the page cache). False: there was nothing. Not from inside a `done` or the
  // batch end.
  virtual bool Reap() { return false; }
  // Operations submitted whose `done` has not been called.
  virtual size_t in_flight() const = 0;
  virtual const char* engine() const = 0;

  // Called on the loop's thread after each batch of `done`s: what is to happen once for all of them
  // (telling a driver). It may submit, and need not flush; it must not destroy this object.
  void OnBatchEnd(std::function<void()> callback) { batch_end_ = std::move(callback); }

 protected:
  void EndBatch() {
    if (batch_end_) batch_end_();
  }

 private:
  std::function<void()> batch_end_;
};

enum class IoEngine : uint8_t { kAuto, kUring, kPool };

struct AsyncFileOptions {
  IoEngine engine = IoEngine::kAuto;  // kAuto: io_uring when the host allows it, else the pool
  uint32_t depth = 256;               // operations in flight that need no queueing inside
  uint32_t pool_threads = 4;
};

// Takes the file. The loop outlives the AsyncFile; nothing may be in flight when it is destroyed,
// which the last `done` may do. io_uring: the ring is created, the file registered, and the ring
// restricted to the opcodes above (IORING_REGISTER_RESTRICTIONS) here, before any seccomp filter of
// the caller.
Result<std::unique_ptr<AsyncFile>> OpenAsyncFile(EventLoop& loop, sys::UniqueFd file,
                                                 const AsyncFileOptions& options);

}  // namespace crosvm::event

// What a successor of a process that died has to know, in a memfd that outlives it: what was
// negotiated with the guest's kernel, the open files, and how far each worker was with the request
// that it had.
//
// A request that was being worked on is handed to the successor again. Most can be repeated. For
// those that cannot (a directory would exist already, a file be gone), the worker notes before and
// after the work what it is about to do and what came of it. A note stays until its request has
// been answered, over any number of deaths and whatever else the workers do before it is its turn.
#pragma once

#include <atomic>
#include <bitset>
#include <cstdint>
#include <memory>
#include <span>

#include "base/mutex.h"
#include "base/result.h"
#include "devices/fs/fs_wire.h"
#include "shared_dir/node_table.h"
#include "sys/fd.h"
#include "sys/mapped_region.h"

namespace crosvm::devices::fs {

// An open file. `in_use` is written last.
struct OpenRecord {
  uint64_t node;
  uint32_t flags;  // O_*, as opened
  uint32_t generation;
  uint8_t is_directory;
  uint8_t in_use;
  uint8_t reserved[6];
};

class SessionState {
 public:
  enum class Stage : uint32_t { kNone = 0, kBegun = 1, kDone = 2 };
  struct Intent {
    uint64_t unique;  // fuse_in_header::unique
    // kDone: what came of it; a negative errno, or of the request's own meaning. kBegun: what the
    // request foresaw, or 0.
    int64_t value;
    Stage stage;
    uint32_t opcode;
  };

  static uint64_t Bytes(uint32_t max_open);
  // `state`: a sealed memfd of Bytes(max_open), all zero for a first process.
  static Result<SessionState> Create(sys::BorrowedFd state, uint32_t max_open);

  // INIT has been answered; the flags that were agreed on, and their upper half.
  uint64_t negotiated() const { return header().negotiated; }
  void SetNegotiated(uint64_t flags) { header().negotiated = flags; }

  std::span<OpenRecord> open_files() const { return {records_, max_open_}; }

  // A note for a worker, which keeps it for request after request. Thread-safe, as are all below.
  Intent& Claim() CROSVM_EXCLUDES(*mutex_);
  // What a predecessor noted about a request, from now on the caller's note; null: nothing.
  Intent* Adopt(uint64_t unique, uint32_t opcode) CROSVM_EXCLUDES(*mutex_);
  // Gives a note back.
  void Release(Intent& intent) CROSVM_EXCLUDES(*mutex_);
  void ForgetIntents() CROSVM_EXCLUDES(*mutex_);

 private:
  // The workers' own, and what predecessors left.
  static constexpr size_t kIntents = 4 * kMaxWorkers;
  struct Header {
    uint64_t magic;
    uint64_t negotiated;
    Intent intents[kIntents];
  };
  SessionState() = default;
  // SAFETY: the mapping begins with the header and is page-aligned.
  Header& header() const { return *reinterpret_cast<Header*>(region_.data()); }

  sys::MappedRegion region_;
  OpenRecord* records_ = nullptr;
  uint32_t max_open_ = 0;
  std::unique_ptr<Mutex> mutex_ = std::make_unique<Mutex>();
  std::bitset<kIntents> claimed_ CROSVM_GUARDED_BY(*mutex_);
};

}  // namespace crosvm::devices::fs

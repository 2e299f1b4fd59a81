// What a successor of a process that died has to know, in a memfd that outlives it: what was
// negotiated with the guest's kernel, the open files, and how far each worker was with the request
// that it had.
//
// A request that was being worked on is handed to the successor again. Most can be repeated. For
// those that cannot (a directory would exist already, a file be gone), the worker notes before and
// after the work what it is about to do and what came of it.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>

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
    int64_t value;    // kDone: what came of it; a negative errno, or of the request's own meaning
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

  Intent& intent(uint32_t worker) const { return header().intents[worker % kMaxWorkers]; }
  // What the predecessor noted about a request.
  std::optional<Intent> Find(uint64_t unique, uint32_t opcode) const;
  void ForgetIntents();

 private:
  struct Header {
    uint64_t magic;
    uint64_t negotiated;
    Intent intents[kMaxWorkers];
  };
  SessionState() = default;
  // SAFETY: the mapping begins with the header and is page-aligned.
  Header& header() const { return *reinterpret_cast<Header*>(region_.data()); }

  sys::MappedRegion region_;
  OpenRecord* records_ = nullptr;
  uint32_t max_open_ = 0;
};

}  // namespace crosvm::devices::fs

// The files that the guest has open, by the handle that OPEN, OPENDIR and CREATE answer. The
// records lie in SessionState, so that a successor opens the same files again under the same
// handles. Safe from every thread.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "devices/fs/session_state.h"
#include "shared_dir/share.h"
#include "shared_dir/unnamed_store.h"

namespace crosvm::devices::fs {

struct OpenFile {
  shared_dir::Descriptor file;
  shared_dir::NodeId node = 0;
  bool is_directory = false;
  // Reading a directory moves its descriptor.
  Mutex mutex;
  int64_t position CROSVM_GUARDED_BY(mutex) = 0;

  sys::BorrowedFd fd() const { return *file; }
};

class OpenFiles {
 public:
  // `share` and `unnamed` outlive this. At most `max_open` files; opens again what `session` holds.
  OpenFiles(shared_dir::Share& share, SessionState& session, shared_dir::UnnamedStore& unnamed,
            uint32_t max_open);
  ~OpenFiles();

  // The handle; ENFILE when there are `max_open`.
  shared_dir::OrErrno<uint64_t> Add(shared_dir::NodeId node, sys::UniqueFd file, int flags,
                                    bool is_directory);
  // EBADF for what is no handle.
  shared_dir::OrErrno<std::shared_ptr<OpenFile>> Get(uint64_t handle);
  void Remove(uint64_t handle);
  void RemoveAll();
  // The node is about to lose its last name: its open files are kept where a successor finds them.
  void LosesName(shared_dir::NodeId node);

 private:
  static constexpr uint32_t kShards = 16;
  struct Shard {
    Mutex mutex;
    std::vector<uint32_t> free CROSVM_GUARDED_BY(mutex);
    uint32_t fresh CROSVM_GUARDED_BY(mutex) = 0;
  };
  struct Slot {
    // Null while a predecessor's file has not been found again.
    std::shared_ptr<OpenFile> file;
    bool unnamed = false;  // in the store
  };

  static uint64_t HandleOf(const OpenRecord& record, uint32_t index) {
    return (uint64_t{record.generation} << 32) | (index + 1);
  }
  // Every open file of that shard: (handle, record, slot).
  template <typename Do>
  void ForEachOpen(uint32_t number, Do work) CROSVM_REQUIRES(shards_[number].mutex);
  void Recover();
  // The slot of a valid handle, or null.
  Slot* Validate(uint64_t handle);
  Shard& ShardOf(uint64_t handle) { return shards_[(static_cast<uint32_t>(handle) - 1) % kShards]; }
  void Insert(Slot& slot, const OpenRecord& record, sys::UniqueFd file);
  shared_dir::OkOrErrno OpenAgain(Slot& slot, const OpenRecord& record);

  shared_dir::Share& share_;
  SessionState& session_;
  shared_dir::UnnamedStore& unnamed_;
  const uint32_t max_open_;
  std::array<Shard, kShards> shards_;
  std::vector<Slot> slots_;  // each guarded by its shard's mutex
  std::atomic<uint32_t> next_shard_{0};
};

}  // namespace crosvm::devices::fs

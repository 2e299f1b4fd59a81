// The files that a guest knows of ("nodes"): which file of the host each is (device and inode
// number), where it was found last (parent and name), and how many references the guest holds. The
// records lie in a memfd that outlives the device process, so that a successor knows the same nodes
// by the same numbers. No descriptors here: see Share.
//
// Safe from every thread. Nodes are spread over shards by file, each with its own lock, held for
// moments only. After a crash a record may be half written; Create() drops what makes no sense, as
// the memory is shared with a process that may have been taken over.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "shared_dir/errno.h"
#include "sys/fd.h"
#include "sys/mapped_region.h"

namespace crosvm::shared_dir {

// What the guest calls a file. Never reused within 2^32 uses of a record, so that a forged or stale
// number is found out.
using NodeId = uint64_t;
inline constexpr NodeId kRootNode = 1;

inline constexpr size_t kMaxName = 255;

// A name of the guest for one component: not empty, not "." or "..", no '/' or NUL, at most
// kMaxName bytes. 0, or the errno to answer.
int CheckName(std::string_view name);

// A file of the host. `birth` tells a file from its successor with the same number; 0: the file
// system does not know.
struct FileKey {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t birth = 0;
  uint16_t type = 0;  // S_IFMT bits of the mode

  bool operator==(const FileKey&) const = default;
};

// What became of the name under which a node was found last.
enum class NameState : uint8_t {
  kThere,
  kElsewhere,  // the guest removed it, and the file has others
  kRemoved,    // the guest removed it, and it was the last
};

// Where a node was found last.
struct NodePlace {
  FileKey key;
  NameState state = NameState::kThere;
  NodeId parent = 0;        // 0: the root
  uint8_t name_length = 0;  // 0: not known, by a death or for lack of room; leads to nothing
  std::array<char, kMaxName> name_bytes{};

  std::string_view name() const { return {name_bytes.data(), name_length}; }
};

class NodeTable {
 public:
  static constexpr size_t kShards = 64;

  // Bytes of the memfd for `capacity` nodes (rounded up to whole shards).
  static uint64_t StateBytes(uint32_t capacity);

  // Takes over what is in `state` (all zero: nothing), a memfd of StateBytes(capacity), sealed
  // against shrinking. `root` becomes kRootNode; when the state has another one it is cleared.
  static Result<std::unique_ptr<NodeTable>> Create(sys::BorrowedFd state, uint32_t capacity,
                                                   const FileKey& root);

  // The node of a file that was found under `parent`, with one reference more. ENFILE when the
  // table is full.
  OrErrno<NodeId> Intern(const FileKey& key, NodeId parent, std::string_view name);
  // The node of a file, when the guest knows it; takes no reference.
  std::optional<NodeId> Find(const FileKey& key);
  // ESTALE for a number that is not (or no longer) a node.
  OrErrno<NodePlace> Place(NodeId node);
  // The file is now called so (a rename of ours), if it is a node.
  void Moved(const FileKey& key, NodeId parent, std::string_view name);
  // Ignored when the node was found under another name last.
  void SetNameState(NodeId node, NodeId parent, std::string_view name, NameState state);
  // Set when that was the last reference and the node is gone: to what Hold() said, or 0. More
  // references than there are count as all; the root stays.
  std::optional<NodeId> Forget(NodeId node, uint64_t references);
  // What `node`, found in `parent`, holds from now on is a reference on `held`, which the caller
  // has taken. Gives what it has held so far (0: nothing), whose reference the caller gives back;
  // `held` itself when there is no such node, or when it was found elsewhere meanwhile.
  NodeId Hold(NodeId node, NodeId parent, NodeId held);
  // One reference more, as a successor's open file holds; ESTALE likewise.
  OkOrErrno Reference(NodeId node);
  // Everything but the root (the guest has unmounted).
  void Clear();

  uint64_t size() const;  // nodes that exist, the root included
  uint32_t capacity() const { return capacity_; }
  // The shard of a node, for tables of others beside this one.
  static size_t ShardOf(NodeId node) { return (static_cast<uint32_t>(node) - 1) % kShards; }

 private:
  struct Record;
  struct KeyHash {
    size_t operator()(const FileKey& key) const;
  };
  struct Shard {
    Mutex mutex;
    std::unordered_map<FileKey, uint32_t, KeyHash> by_key CROSVM_GUARDED_BY(mutex);
    std::vector<uint32_t> free CROSVM_GUARDED_BY(mutex);
    uint32_t fresh CROSVM_GUARDED_BY(mutex) = 0;  // first row of the shard never used
    uint64_t live CROSVM_GUARDED_BY(mutex) = 0;
  };

  NodeTable(sys::MappedRegion region, uint32_t capacity);
  void Recover();
  // Takes the record over if it makes sense, and notes the rows of the shard that it uses.
  void RecoverRecord(Shard& shard, uint32_t slot, std::vector<bool>& used)
      CROSVM_REQUIRES(shard.mutex);
  Record& At(uint32_t slot) const;
  Shard& ShardOfSlot(uint32_t slot) { return shards_[slot % kShards]; }
  Shard& ShardOfKey(const FileKey& key);
  std::optional<uint32_t> Allocate(Shard& shard) CROSVM_REQUIRES(shard.mutex);
  void Release(Shard& shard, uint32_t slot) CROSVM_REQUIRES(shard.mutex);
  // False when there is no room for the name: then it has none until it is found again.
  bool SetPlace(Shard& shard, Record& record, NodeId parent, std::string_view name)
      CROSVM_REQUIRES(shard.mutex);
  void FreeName(Shard& shard, Record& record) CROSVM_REQUIRES(shard.mutex);
  bool HasName(const Record& record, NodeId parent, std::string_view name) const;
  // Copies the whole name of a node.
  void ReadName(const Record& record, NodePlace& place) const;
  // Null for a number that is no node of this shard.
  Record* Validate(NodeId node) const;
  static NodeId IdOf(const Record& record, uint32_t slot);

  sys::MappedRegion region_;
  const uint32_t capacity_;
  std::array<Shard, kShards> shards_;
};

}  // namespace crosvm::shared_dir

// A directory of the host that a guest works in: every operation that virtio-fs and 9p have in
// common. No operation can leave the directory: names are single components that are resolved below
// a descriptor of their parent without following links (openat2 with RESOLVE_BENEATH and
// RESOLVE_NO_MAGICLINKS), never "..", and a path is resolved again only from the root in the same
// way, after which the file found must be the one that is meant.
//
// Files cost no descriptor by being known: a node is found again through its parent's descriptor
// and its name, and checked by device, inode number and time of birth. Descriptors (O_PATH) are
// kept for directories and for what needs one, within a bound; the least recently used go.
//
// Safe from every thread that called EnterWorkerThread(). Names of the guest are checked here.
// Lives in the device process; the VMM prepares the descriptors.
#pragma once

#include <sys/stat.h>
#include <sys/statfs.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "shared_dir/errno.h"
#include "shared_dir/identity.h"
#include "shared_dir/node_table.h"
#include "sys/fd.h"

namespace crosvm::shared_dir {

struct ShareOptions {
  uint32_t max_nodes = 1U << 21;         // as the state memfd was made for
  uint32_t max_descriptors = 512;        // kept for nodes, beside open files
  bool read_only = false;                // EROFS for whatever would change something
  bool rewrite_security_xattrs = false;  // security.* but selinux are kept as user.virtiofs.*
  bool ascii_casefold = false;           // a name that is not there is looked for without case
  // A node keeps the one that it was found in known, which leads to it. FUSE's kernel does that by
  // itself; a 9p client goes over several names at once and has no fid for what is between.
  bool hold_parents = false;
};

// A descriptor that is closed when its last user lets go.
using Descriptor = std::shared_ptr<const sys::UniqueFd>;

struct Found {
  NodeId node = 0;  // one reference more is held on it
  struct statx attributes{};
};

struct KnownName {
  NodeId node = 0;
  uint64_t inode = 0;
  bool open = false;  // it has open files
  bool last = false;  // it has no other name
};

struct Created {
  Found found;
  sys::UniqueFd file;
};

// What to change of a file; what is empty stays. Times: UTIME_NOW in tv_nsec means now.
struct AttributeChange {
  std::optional<mode_t> mode;  // permission bits
  std::optional<uid_t> user;
  std::optional<gid_t> group;
  std::optional<uint64_t> size;
  std::optional<timespec> access_time;
  std::optional<timespec> modification_time;
  bool kill_set_id = false;  // the caller may not keep set-id bits over a change of size
};

class Share {
 public:
  // `root`: the directory (O_PATH suffices); `self_fds`: jail::OpenSelfFds(); `state`: MakeState().
  static Result<std::unique_ptr<Share>> Create(sys::UniqueFd root, sys::UniqueFd self_fds,
                                               sys::BorrowedFd state, const ShareOptions& options);
  // The memory that outlives the device process: zero-filled, sealed.
  static Result<sys::UniqueFd> MakeState(uint32_t max_nodes);
  ~Share();

  sys::BorrowedFd self_fds() const { return self_fds_; }
  const ShareOptions& options() const { return options_; }

  // --- nodes. What returns a Found or Created takes a reference; Forget() gives them back.

  OrErrno<Found> Lookup(NodeId parent, std::string_view name);
  // ".." of a directory node; the root's is the root. For 9p alone.
  OrErrno<Found> LookupParent(NodeId directory);
  // One reference more (9p clones fids).
  OkOrErrno Reference(NodeId node) { return nodes_->Reference(node); }
  void Forget(NodeId node, uint64_t references);
  // The driver is gone: every node but the root is forgotten, every kept descriptor closed.
  void ForgetAll();

  // --- what a file is

  OrErrno<struct statx> Stat(NodeId node);
  OrErrno<struct statx> StatFile(sys::BorrowedFd file);
  // Of the file system that the node is on.
  OrErrno<struct statfs> StatFileSystem(NodeId node);
  OrErrno<std::string> ReadLink(NodeId node);
  // `file`: an open file of the node, or an invalid descriptor. Returns what it is afterwards.
  OrErrno<struct statx> Change(NodeId node, sys::BorrowedFd file, const AttributeChange& change);
  // The S_IFMT bits, from the table: no system call.
  OrErrno<uint16_t> TypeOf(NodeId node);
  // Whether that open file is the node's.
  bool IsFile(NodeId node, sys::BorrowedFd file);
  // Whether the name under which the node was found last is gone.
  bool NameLost(NodeId node);

  // --- opening. Only regular files and directories can be opened (ENXIO, or ELOOP for a link); of
  // `flags` the access mode, O_APPEND, O_TRUNC, O_SYNC, O_DSYNC and O_DIRECTORY count.

  OrErrno<sys::UniqueFd> Open(NodeId node, int flags);
  // With O_EXCL in `flags` the file must be new. An existing one is opened. With O_TRUNC, as in
  // Open(), the caller says with KeepSetIdBits() before whether that keeps such bits.
  OrErrno<Created> Create(const Caller& caller, NodeId parent, std::string_view name, int flags,
                          mode_t mode);
  OrErrno<Created> CreateUnnamed(const Caller& caller, NodeId parent, int flags, mode_t mode);
  // The open file is a way to reach its node while the node has no name any more. Until the
  // matching RemoveOpen().
  void AddOpen(NodeId node, const Descriptor& file);
  void RemoveOpen(NodeId node, const Descriptor& file);
  bool IsOpen(NodeId node);
  // The node under a name that is about to go; empty when the guest knows none there.
  std::optional<KnownName> KnownUnder(NodeId parent, std::string_view name);
  // That name is gone. Who still comes with the node hears that it does not exist (ENOENT) if it
  // was the last name, as who opens a file while another deletes it. Otherwise ESTALE makes Linux
  // look for it again.
  void ForgetName(const KnownName& known, NodeId parent, std::string_view name);

  // --- names

  OrErrno<Found> MakeDirectory(const Caller& caller, NodeId parent, std::string_view name,
                               mode_t mode);
  // Regular files, FIFOs, sockets; devices are EPERM (but 0:0, overlayfs' whiteout).
  OrErrno<Found> MakeNode(const Caller& caller, NodeId parent, std::string_view name, mode_t mode,
                          dev_t device);
  OrErrno<Found> MakeLink(const Caller& caller, NodeId parent, std::string_view name,
                          const std::string& target);
  OrErrno<Found> HardLink(NodeId node, NodeId parent, std::string_view name);
  OkOrErrno Unlink(NodeId parent, std::string_view name);
  OkOrErrno RemoveDirectory(NodeId parent, std::string_view name);
  // `flags`: RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT.
  OkOrErrno Rename(NodeId from, std::string_view name, NodeId to, std::string_view new_name,
                   unsigned flags);
  // After a crash: whether that rename was carried out before it (the table still has the old
  // name), which is then put right. For who has no note of it: once Rename() gave ENOENT.
  bool RenameHappened(NodeId from, std::string_view name, NodeId to, std::string_view new_name);
  // The same for who noted the inode number of what was to be moved.
  bool RenameHappened(NodeId from, std::string_view name, NodeId to, std::string_view new_name,
                      uint64_t inode);
  OrErrno<uint64_t> InodeUnder(NodeId parent, std::string_view name);

  // --- extended attributes. A size of 0 asks for the length.

  OrErrno<size_t> GetXattr(NodeId node, const std::string& name, std::span<char> value);
  // The caller has said with KeepSetIdBits() whether a list of access rights keeps such bits.
  OkOrErrno SetXattr(NodeId node, const std::string& name, std::span<const char> value, int flags);
  OrErrno<std::vector<char>> ListXattr(NodeId node);  // names, each ended by NUL
  OkOrErrno RemoveXattr(NodeId node, const std::string& name);

  // A descriptor (O_PATH, or of an open file) of the node, from the cache or opened now. ESTALE
  // when the node is not where it was and no other way to it is known.
  OrErrno<Descriptor> Locate(NodeId node);
  // Descriptors kept for nodes now.
  // ORDERING: a statistic.
  size_t descriptors() const { return kept_.load(std::memory_order_relaxed); }
  NodeTable& nodes() { return *nodes_; }

 private:
  struct Kept {
    NodeId node = 0;
    Descriptor file;
  };
  // Descriptors of the nodes of one of the table's shards.
  struct Shard {
    Mutex mutex;
    std::list<Kept> recent CROSVM_GUARDED_BY(mutex);  // most recently used first
    std::unordered_map<NodeId, std::list<Kept>::iterator> kept CROSVM_GUARDED_BY(mutex);
    std::unordered_multimap<NodeId, Descriptor> open CROSVM_GUARDED_BY(mutex);
  };

  Share(sys::UniqueFd root, sys::UniqueFd self_fds, const ShareOptions& options);

  Shard& ShardOf(NodeId node) { return shards_[NodeTable::ShardOf(node)]; }
  // What is at hand without a system call.
  Descriptor AtHand(NodeId node);
  void Keep(NodeId node, const Descriptor& file);
  OrErrno<Descriptor> LocateAt(NodeId node, int depth);
  OkOrErrno CheckChange(std::string_view name) const;
  // Where hold_parents: the node was found in that directory.
  void HoldParent(NodeId node, NodeId parent);
  // As NodeTable::Moved().
  void Moved(const FileKey& key, NodeId parent, std::string_view name);
  OrErrno<Found> Enter(NodeId parent, std::string_view name, const struct statx& attributes);
  OrErrno<Found> StatAndEnter(sys::BorrowedFd directory, NodeId parent, std::string_view name);
  // The entry of the directory that equals `name` but for ASCII case.
  std::optional<std::string> FindFolded(sys::BorrowedFd directory, std::string_view name);
  OrErrno<sys::UniqueFd> Reopen(sys::BorrowedFd file, int flags);
  OrErrno<sys::UniqueFd> OpenByName(const NodePlace& place, int flags);
  bool Reachable(NodeId node);

  const sys::UniqueFd self_fds_;
  const ShareOptions options_;
  const Descriptor root_;
  std::unique_ptr<NodeTable> nodes_;
  std::array<Shard, NodeTable::kShards> shards_;
  const size_t kept_per_shard_;
  std::atomic<size_t> kept_{0};
};

// A file's identity out of statx(2) with STATX_BASIC_STATS | STATX_BTIME.
FileKey KeyOf(const struct statx& attributes);

// The host's name of an extended attribute under rewrite_security_xattrs, and whether the guest may
// use it.
std::optional<std::string> HostXattrName(const std::string& name, bool rewrite);

}  // namespace crosvm::shared_dir

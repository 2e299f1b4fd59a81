#include "shared_dir/share.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "shared_dir/syscalls.h"
#include "sys/memfd.h"

namespace crosvm::shared_dir {
namespace {

// Deeper than any path that the kernel takes in one piece; ends loops in a damaged table.
constexpr int kMaxDepth = 2100;
constexpr int kOpenFlags = O_ACCMODE | O_APPEND | O_TRUNC | O_SYNC | O_DSYNC | O_DIRECTORY;

// What to answer for a node that is not where it was.
int Lost(const NodePlace& place) {
  return place.state == NameState::kRemoved ? ENOENT : ESTALE;
}

bool Writes(int flags) {
  return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0;
}

}  // namespace

FileKey KeyOf(const struct statx& attributes) {
  constexpr uint64_t kNano = 1'000'000'000;
  FileKey key;
  key.device = (uint64_t{attributes.stx_dev_major} << 32) | attributes.stx_dev_minor;
  key.inode = attributes.stx_ino;
  key.type = attributes.stx_mode & S_IFMT;
  if ((attributes.stx_mask & STATX_BTIME) != 0) {
    // Wraps around after the year 2262, which a damaged disk can come up with: any number will do.
    key.birth = static_cast<int64_t>(static_cast<uint64_t>(attributes.stx_btime.tv_sec) * kNano +
                                     attributes.stx_btime.tv_nsec);
  }
  return key;
}

Result<sys::UniqueFd> Share::MakeState(uint32_t max_nodes) {
  return sys::CreateSealedMemfd("crosvm-shared-dir", NodeTable::StateBytes(max_nodes));
}

Share::Share(sys::UniqueFd root, sys::UniqueFd self_fds, const ShareOptions& options)
    : self_fds_(std::move(self_fds)),
      options_(options),
      root_(std::make_shared<const sys::UniqueFd>(std::move(root))),
      kept_per_shard_(std::max<size_t>(2, options.max_descriptors / NodeTable::kShards)) {
}

Share::~Share() = default;

Result<std::unique_ptr<Share>> Share::Create(sys::UniqueFd root, sys::UniqueFd self_fds,
                                             sys::BorrowedFd state, const ShareOptions& options) {
  std::unique_ptr<Share> share(new Share(std::move(root), std::move(self_fds), options));
  const OrErrno<struct statx> attributes = StatAt(*share->root_, "");
  if (!attributes.has_value()) {
    return std::unexpected(
        Error::FromErrno(attributes.error().value, "looking at the shared directory"));
  }
  if (!S_ISDIR(attributes->stx_mode)) {
    return Fail(ErrorKind::kInvalidArgument, "what is to be shared is not a directory");
  }
  share->nodes_ = TRY(NodeTable::Create(state, options.max_nodes, KeyOf(*attributes)));
  return share;
}

// --- descriptors of nodes ------------------------------------------------------------------------

Descriptor Share::AtHand(NodeId node) {
  if (node == kRootNode) return root_;
  Shard& shard = ShardOf(node);
  MutexLock lock(shard.mutex);
  if (const auto kept = shard.kept.find(node); kept != shard.kept.end()) {
    shard.recent.splice(shard.recent.begin(), shard.recent, kept->second);
    return kept->second->file;
  }
  if (shard.open.empty()) return nullptr;
  const auto open = shard.open.find(node);
  return open == shard.open.end() ? nullptr : open->second;
}

// Whether a node would be found again by its name.
bool Share::Reachable(NodeId node) {
  const OrErrno<NodePlace> place = nodes_->Place(node);
  if (!place.has_value()) return true;  // forgotten: nobody will ask
  const Descriptor parent = AtHand(place->parent);
  if (!parent) return true;
  const OrErrno<struct statx> now = StatAt(*parent, CName(place->name()).text());
  return now.has_value() && KeyOf(*now) == place->key;
}

void Share::Keep(NodeId node, const Descriptor& file) {
  Shard& shard = ShardOf(node);
  for (int attempt = 0; attempt < 4; ++attempt) {
    Kept oldest;
    {
      MutexLock lock(shard.mutex);
      if (attempt == 0 && !shard.kept.contains(node)) {
        shard.recent.push_front({node, file});
        shard.kept[node] = shard.recent.begin();
        kept_.fetch_add(1, std::memory_order_relaxed);  // ORDERING: a statistic
      }
      if (shard.recent.size() <= kept_per_shard_) return;
      oldest = std::move(shard.recent.back());
      shard.recent.pop_back();
      shard.kept.erase(oldest.node);
      kept_.fetch_sub(1, std::memory_order_relaxed);  // ORDERING: a statistic
      // More that have no name any more than there is room for: the oldest are lost (ESTALE).
      if (shard.recent.size() >= 2 * kept_per_shard_) return;
    }
    // Closing it would lose a file that was deleted or moved away while the guest still uses it.
    if (Reachable(oldest.node)) return;
    MutexLock lock(shard.mutex);
    if (shard.kept.contains(oldest.node)) return;
    shard.recent.push_front(oldest);
    shard.kept[oldest.node] = shard.recent.begin();
    kept_.fetch_add(1, std::memory_order_relaxed);  // ORDERING: a statistic
  }
}

OrErrno<Descriptor> Share::Locate(NodeId node) {
  return LocateAt(node, 0);
}

OrErrno<Descriptor> Share::LocateAt(NodeId node, int depth) {
  if (Descriptor file = AtHand(node)) return file;
  if (depth > kMaxDepth) return Refuse(ESTALE);
  const NodePlace place = TRY(nodes_->Place(node));
  const Descriptor parent = TRY(LocateAt(place.parent, depth + 1));
  OrErrno<sys::UniqueFd> opened = OpenBeneath(*parent, CName(place.name()).text(), O_PATH);
  if (!opened.has_value()) {
    const int why = opened.error().value;
    return Refuse(why == ENOENT || why == ENOTDIR || why == ELOOP ? Lost(place) : why);
  }
  const struct statx attributes = TRY(StatAt(*opened, ""));
  if (KeyOf(attributes) != place.key) return Refuse(Lost(place));
  Descriptor file = std::make_shared<const sys::UniqueFd>(std::move(*opened));
  Keep(node, file);
  return file;
}

void Share::AddOpen(NodeId node, const Descriptor& file) {
  Shard& shard = ShardOf(node);
  MutexLock lock(shard.mutex);
  shard.open.emplace(node, file);
}

void Share::RemoveOpen(NodeId node, const Descriptor& file) {
  Shard& shard = ShardOf(node);
  MutexLock lock(shard.mutex);
  const auto [first, last] = shard.open.equal_range(node);
  for (auto entry = first; entry != last; ++entry) {
    if (entry->second != file) continue;
    shard.open.erase(entry);
    return;
  }
}

std::optional<KnownName> Share::KnownUnder(NodeId parent, std::string_view name) {
  if (CheckName(name) != 0) return std::nullopt;
  const OrErrno<Descriptor> directory = Locate(parent);
  if (!directory.has_value()) return std::nullopt;
  const OrErrno<struct statx> attributes = StatAt(**directory, CName(name).text());
  if (!attributes.has_value()) return std::nullopt;
  const std::optional<NodeId> node = nodes_->Find(KeyOf(*attributes));
  if (!node) return std::nullopt;
  KnownName known{.node = *node,
                  .inode = attributes->stx_ino,
                  .last = attributes->stx_nlink == 1 || S_ISDIR(attributes->stx_mode)};
  known.open = IsOpen(*node);
  return known;
}

bool Share::IsOpen(NodeId node) {
  Shard& shard = ShardOf(node);
  MutexLock lock(shard.mutex);
  return shard.open.contains(node);
}

void Share::ForgetName(const KnownName& known, NodeId parent, std::string_view name) {
  nodes_->SetNameState(known.node, parent, name,
                       known.last ? NameState::kRemoved : NameState::kElsewhere);
}

bool Share::IsFile(NodeId node, sys::BorrowedFd file) {
  const OrErrno<NodePlace> place = nodes_->Place(node);
  const OrErrno<struct statx> attributes = StatFile(file);
  return place.has_value() && attributes.has_value() && KeyOf(*attributes) == place->key;
}

bool Share::NameLost(NodeId node) {
  const OrErrno<NodePlace> place = nodes_->Place(node);
  return place.has_value() && place->state != NameState::kThere;
}

OrErrno<sys::UniqueFd> Share::Reopen(sys::BorrowedFd file, int flags) {
  sys::UniqueFd fd(openat(self_fds_.get(), SelfName(file).text(), flags | O_CLOEXEC));
  if (!fd.valid()) return RefuseLast();
  return fd;
}

// --- lookup --------------------------------------------------------------------------------------

void Share::HoldParent(NodeId node, NodeId parent) {
  // The root stays anyway, and a node that is its own parent is a damaged table's.
  if (!options_.hold_parents || node == kRootNode || node == parent) return;
  // The reference comes first and goes last: should the process die in between, it costs a record
  // until the client goes, and no file.
  const bool held = parent != kRootNode && nodes_->Reference(parent).has_value();
  const NodeId before = nodes_->Hold(node, parent, held ? parent : 0);
  if (before != 0) Forget(before, 1);
}

void Share::Moved(const FileKey& key, NodeId parent, std::string_view name) {
  nodes_->Moved(key, parent, name);
  if (!options_.hold_parents) return;
  if (const std::optional<NodeId> node = nodes_->Find(key)) HoldParent(*node, parent);
}

OrErrno<Found> Share::Enter(NodeId parent, std::string_view name, const struct statx& attributes) {
  const NodeId node = TRY(nodes_->Intern(KeyOf(attributes), parent, name));
  HoldParent(node, parent);
  return Found{.node = node, .attributes = attributes};
}

OrErrno<Found> Share::StatAndEnter(sys::BorrowedFd directory, NodeId parent,
                                   std::string_view name) {
  const struct statx attributes = TRY(StatAt(directory, CName(name).text()));
  return Enter(parent, name, attributes);
}

OrErrno<Found> Share::Lookup(NodeId parent, std::string_view name) {
  if (const int bad = CheckName(name); bad != 0) return Refuse(bad);
  const Descriptor directory = TRY(Locate(parent));
  OrErrno<Found> found = StatAndEnter(*directory, parent, name);
  if (found.has_value() || found.error().value != ENOENT || !options_.ascii_casefold) return found;
  const std::optional<std::string> folded = FindFolded(*directory, name);
  if (!folded) return found;
  return StatAndEnter(*directory, parent, *folded);
}

OrErrno<Found> Share::LookupParent(NodeId directory) {
  const NodePlace place = TRY(nodes_->Place(directory));
  const NodeId parent = place.parent == 0 ? kRootNode : place.parent;
  const struct statx attributes = TRY(Stat(parent));
  TRY(nodes_->Reference(parent));
  return Found{.node = parent, .attributes = attributes};
}

std::optional<std::string> Share::FindFolded(sys::BorrowedFd directory, std::string_view name) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  const OrErrno<sys::UniqueFd> stream = Reopen(directory, O_RDONLY | O_DIRECTORY);
  if (!stream.has_value()) return std::nullopt;
  alignas(dirent64) std::array<char, 16384> buffer;
  while (true) {
    const long got = syscall(SYS_getdents64, stream->get(), buffer.data(), buffer.size());
    if (got <= 0) return std::nullopt;
    for (long at = 0; at < got;) {
      // SAFETY: the kernel fills the buffer with whole, aligned records.
      const auto* const entry = reinterpret_cast<const dirent64*>(buffer.data() + at);
      const std::string_view candidate(entry->d_name);
      if (std::equal(candidate.begin(), candidate.end(), name.begin(), name.end(),
                     [&](char a, char b) { return lower(a) == lower(b); })) {
        return std::string(candidate);
      }
      at += entry->d_reclen;
    }
  }
}

void Share::Forget(NodeId node, uint64_t references) {
  while (const std::optional<NodeId> held = nodes_->Forget(node, references)) {
    {
      Shard& shard = ShardOf(node);
      Descriptor closed;  // outside the lock
      MutexLock lock(shard.mutex);
      if (const auto kept = shard.kept.find(node); kept != shard.kept.end()) {
        closed = std::move(kept->second->file);
        shard.recent.erase(kept->second);
        shard.kept.erase(kept);
        kept_.fetch_sub(1, std::memory_order_relaxed);  // ORDERING: a statistic
      }
    }
    if (*held == 0) return;
    node = *held;
    references = 1;
  }
}

void Share::ForgetAll() {
  nodes_->Clear();
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    kept_.fetch_sub(shard.recent.size(), std::memory_order_relaxed);  // ORDERING: a statistic
    shard.recent.clear();
    shard.kept.clear();
  }
}

// --- what a file is ------------------------------------------------------------------------------

OrErrno<struct statx> Share::Stat(NodeId node) {
  if (const Descriptor file = AtHand(node)) return StatAt(*file, "");
  const NodePlace place = TRY(nodes_->Place(node));
  const Descriptor parent = TRY(Locate(place.parent));
  OrErrno<struct statx> attributes = StatAt(*parent, CName(place.name()).text());
  if (attributes.has_value() && KeyOf(*attributes) == place.key) return attributes;
  if (!attributes.has_value() && attributes.error().value != ENOENT) return attributes;
  return Refuse(Lost(place));
}

OrErrno<struct statx> Share::StatFile(sys::BorrowedFd file) {
  return StatAt(file, "");
}

OrErrno<struct statfs> Share::StatFileSystem(NodeId node) {
  const Descriptor file = TRY(Locate(node));
  struct statfs result{};
  if (fstatfs(file->get(), &result) != 0) return RefuseLast();
  return result;
}

OrErrno<uint16_t> Share::TypeOf(NodeId node) {
  const NodePlace place = TRY(nodes_->Place(node));
  return place.key.type;
}

OrErrno<std::string> Share::ReadLink(NodeId node) {
  const NodePlace place = TRY(nodes_->Place(node));
  if (place.key.type != S_IFLNK) return Refuse(EINVAL);
  std::array<char, PATH_MAX> target;
  ssize_t length = 0;
  if (const Descriptor file = AtHand(node)) {
    length = readlinkat(file->get(), "", target.data(), target.size());
  } else {
    const Descriptor parent = TRY(Locate(place.parent));
    length = readlinkat(parent->get(), CName(place.name()).text(), target.data(), target.size());
    if (length < 0 && (errno == ENOENT || errno == EINVAL)) return Refuse(Lost(place));
  }
  if (length < 0) return RefuseLast();
  return std::string(target.data(), static_cast<size_t>(length));
}

OrErrno<struct statx> Share::Change(NodeId node, sys::BorrowedFd file,
                                    const AttributeChange& change) {
  if (options_.read_only) return Refuse(EROFS);
  const Descriptor located = TRY(Locate(node));
  const sys::BorrowedFd fd = *located;
  if (change.user || change.group) {
    // The order of chown(2) and chmod(2) matters: the first clears the set-id bits, whoever asks.
    // What it leaves to a privilege is for the guest's kernel to decide, which knows its callers'
    // groups.
    KeepSetIdBits(true);
    if (fchownat(fd.get(), "", change.user.value_or(static_cast<uid_t>(-1)),
                 change.group.value_or(static_cast<gid_t>(-1)), AT_EMPTY_PATH) != 0) {
      // An id that the host does not have under this map.
      return Refuse(errno == EINVAL ? EPERM : errno);
    }
  }
  if (change.mode) {
    KeepSetIdBits(true);
    if (fchmodat(self_fds_.get(), SelfName(fd).text(), *change.mode & 07777, 0) != 0) {
      return RefuseLast();
    }
  }
  if (change.size) {
    if (*change.size > INT64_MAX) return Refuse(EFBIG);
    const auto size = static_cast<off_t>(*change.size);
    KeepSetIdBits(!change.kill_set_id);
    if (!file.valid() || ftruncate(file.get(), size) != 0) {
      if (file.valid() && errno != EINVAL && errno != EBADF) return RefuseLast();
      if (TRY(TypeOf(node)) != S_IFREG) return Refuse(EINVAL);
      const sys::UniqueFd writable = TRY(Reopen(fd, O_WRONLY));
      if (ftruncate(writable.get(), size) != 0) return RefuseLast();
    }
  }
  if (change.access_time || change.modification_time) {
    constexpr timespec kOmit{.tv_sec = 0, .tv_nsec = UTIME_OMIT};
    const timespec times[] = {change.access_time.value_or(kOmit),
                              change.modification_time.value_or(kOmit)};
    if (utimensat(fd.get(), "", times, AT_EMPTY_PATH) != 0) return RefuseLast();
  }
  return StatAt(fd, "");
}

// --- opening -------------------------------------------------------------------------------------

OrErrno<sys::UniqueFd> Share::OpenByName(const NodePlace& place, int flags) {
  const Descriptor parent = TRY(Locate(place.parent));
  // Should the name be a FIFO or a device by now, the open neither waits nor stays.
  OrErrno<sys::UniqueFd> file =
      OpenBeneath(*parent, CName(place.name()).text(), (flags & ~O_TRUNC) | O_NONBLOCK | O_NOCTTY);
  if (!file.has_value()) {
    const int why = file.error().value;
    return Refuse(why == ENOENT || why == ELOOP || why == ENXIO ? Lost(place) : why);
  }
  const struct statx attributes = TRY(StatAt(*file, ""));
  if (KeyOf(attributes) != place.key) return Refuse(Lost(place));
  // Only once it is sure to be the file that is meant. Linux truncates also what is only read.
  if ((flags & O_TRUNC) != 0 && (flags & O_ACCMODE) == O_RDONLY) return Reopen(*file, flags);
  if ((flags & O_TRUNC) != 0 && ftruncate(file->get(), 0) != 0) return RefuseLast();
  return file;
}

OrErrno<sys::UniqueFd> Share::Open(NodeId node, int flags) {
  flags &= kOpenFlags;
  if (options_.read_only && Writes(flags)) return Refuse(EROFS);
  const NodePlace place = TRY(nodes_->Place(node));
  if (place.key.type == S_IFLNK) return Refuse(ELOOP);
  if (place.key.type != S_IFREG && place.key.type != S_IFDIR) return Refuse(ENXIO);
  if (const Descriptor file = AtHand(node)) return Reopen(*file, flags);
  return OpenByName(place, flags);
}

OrErrno<Created> Share::Create(const Caller& caller, NodeId parent, std::string_view name,
                               int flags, mode_t mode) {
  TRY(CheckChange(name));
  const Descriptor directory = TRY(Locate(parent));
  const int how = (flags & (kOpenFlags | O_EXCL) & ~O_DIRECTORY) | O_CREAT | O_NONBLOCK | O_NOCTTY;
  if ((flags & O_TRUNC) == 0) KeepSetIdBits(true);
  OrErrno<sys::UniqueFd> file = [&] {
    const ScopedCaller as(caller);
    return OpenBeneath(*directory, CName(name).text(), how, mode & 07777);
  }();
  if (!file.has_value()) return std::unexpected(file.error());
  const struct statx attributes = TRY(StatAt(*file, ""));
  if (!S_ISREG(attributes.stx_mode)) return Refuse(ENXIO);
  const Found found = TRY(Enter(parent, name, attributes));
  return Created{.found = found, .file = std::move(*file)};
}

OrErrno<Created> Share::CreateUnnamed(const Caller& caller, NodeId parent, int flags, mode_t mode) {
  if (options_.read_only) return Refuse(EROFS);
  const Descriptor directory = TRY(Locate(parent));
  KeepSetIdBits(true);
  OrErrno<sys::UniqueFd> file = [&] {
    const ScopedCaller as(caller);
    // O_EXCL: such a file can never get a name.
    return OpenBeneath(*directory, ".", (flags & (O_ACCMODE | O_APPEND | O_EXCL)) | O_TMPFILE,
                       mode & 07777);
  }();
  if (!file.has_value()) return std::unexpected(file.error());
  const struct statx attributes = TRY(StatAt(*file, ""));
  // It has no name; this one leads to nothing, and the open file is the way to it.
  constexpr std::string_view kNoName = "#unnamed";
  const Found found = TRY(Enter(parent, kNoName, attributes));
  nodes_->SetNameState(found.node, parent, kNoName, NameState::kRemoved);
  return Created{.found = found, .file = std::move(*file)};
}

// --- names ---------------------------------------------------------------------------------------

OkOrErrno Share::CheckChange(std::string_view name) const {
  if (const int bad = CheckName(name); bad != 0) return Refuse(bad);
  if (options_.read_only) return Refuse(EROFS);
  return {};
}

OrErrno<Found> Share::MakeDirectory(const Caller& caller, NodeId parent, std::string_view name,
                                    mode_t mode) {
  TRY(CheckChange(name));
  const Descriptor directory = TRY(Locate(parent));
  {
    const ScopedCaller as(caller);
    if (mkdirat(directory->get(), CName(name).text(), mode & 07777) != 0) return RefuseLast();
  }
  return StatAndEnter(*directory, parent, name);
}

OrErrno<Found> Share::MakeNode(const Caller& caller, NodeId parent, std::string_view name,
                               mode_t mode, dev_t device) {
  TRY(CheckChange(name));
  const bool whiteout = S_ISCHR(mode) && device == 0;
  if (!S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode) && !whiteout) return Refuse(EPERM);
  const Descriptor directory = TRY(Locate(parent));
  KeepSetIdBits(true);
  {
    const ScopedCaller as(caller);
    if (mknodat(directory->get(), CName(name).text(), mode & (S_IFMT | 07777), 0) != 0) {
      return RefuseLast();
    }
  }
  return StatAndEnter(*directory, parent, name);
}

OrErrno<Found> Share::MakeLink(const Caller& caller, NodeId parent, std::string_view name,
                               const std::string& target) {
  TRY(CheckChange(name));
  if (target.find('\0') != std::string::npos) return Refuse(EINVAL);
  const Descriptor directory = TRY(Locate(parent));
  {
    const ScopedCaller as(caller);
    if (symlinkat(target.c_str(), directory->get(), CName(name).text()) != 0) return RefuseLast();
  }
  return StatAndEnter(*directory, parent, name);
}

OrErrno<Found> Share::HardLink(NodeId node, NodeId parent, std::string_view name) {
  TRY(CheckChange(name));
  const Descriptor file = TRY(Locate(node));
  const Descriptor directory = TRY(Locate(parent));
  // By the descriptor: the name may be another file by now.
  if (linkat(self_fds_.get(), SelfName(*file).text(), directory->get(), CName(name).text(),
             AT_SYMLINK_FOLLOW) != 0) {
    return RefuseLast();
  }
  return StatAndEnter(*directory, parent, name);
}

OkOrErrno Share::Unlink(NodeId parent, std::string_view name) {
  TRY(CheckChange(name));
  const Descriptor directory = TRY(Locate(parent));
  if (unlinkat(directory->get(), CName(name).text(), 0) != 0) return RefuseLast();
  return {};
}

OkOrErrno Share::RemoveDirectory(NodeId parent, std::string_view name) {
  TRY(CheckChange(name));
  const Descriptor directory = TRY(Locate(parent));
  if (unlinkat(directory->get(), CName(name).text(), AT_REMOVEDIR) != 0) return RefuseLast();
  return {};
}

OkOrErrno Share::Rename(NodeId from, std::string_view name, NodeId to, std::string_view new_name,
                        unsigned flags) {
  TRY(CheckChange(name));
  TRY(CheckChange(new_name));
  constexpr unsigned kKnown = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT;
  if ((flags & ~kKnown) != 0) return Refuse(EINVAL);
  const Descriptor source = TRY(Locate(from));
  const Descriptor target = TRY(Locate(to));
  const CName old_text(name);
  const CName new_text(new_name);
  if (syscall(SYS_renameat2, source->get(), old_text.text(), target->get(), new_text.text(),
              flags) != 0) {
    return RefuseLast();
  }
  if (const auto moved = StatAt(*target, new_text.text()); moved.has_value()) {
    Moved(KeyOf(*moved), to, new_name);
  }
  if ((flags & RENAME_EXCHANGE) != 0) {
    if (const auto other = StatAt(*source, old_text.text()); other.has_value()) {
      Moved(KeyOf(*other), from, name);
    }
  }
  return {};
}

bool Share::RenameHappened(NodeId from, std::string_view name, NodeId to,
                           std::string_view new_name) {
  if (CheckName(name) != 0 || CheckName(new_name) != 0) return false;
  const OrErrno<Descriptor> target = Locate(to);
  if (!target.has_value()) return false;
  const OrErrno<struct statx> there = StatAt(**target, CName(new_name).text());
  if (!there.has_value()) return false;
  const FileKey key = KeyOf(*there);
  const std::optional<NodeId> node = nodes_->Find(key);
  if (!node) return false;
  const OrErrno<NodePlace> place = nodes_->Place(*node);
  if (!place.has_value()) return false;
  const bool old_place = place->parent == from && place->name() == name;
  const bool new_place = place->parent == to && place->name() == new_name;
  // The death may have come while the new place was written down.
  const bool no_place = place->name().empty();
  if (!old_place && !new_place && !no_place) return false;
  Moved(key, to, new_name);
  return true;
}

bool Share::RenameHappened(NodeId from, std::string_view name, NodeId to, std::string_view new_name,
                           uint64_t inode) {
  if (CheckName(name) != 0 || CheckName(new_name) != 0) return false;
  const OrErrno<Descriptor> source = Locate(from);
  const OrErrno<Descriptor> target = Locate(to);
  if (!source.has_value() || !target.has_value()) return false;
  const OrErrno<struct statx> there = StatAt(**target, CName(new_name).text());
  if (!there.has_value() || there->stx_ino != inode) return false;
  Moved(KeyOf(*there), to, new_name);
  // What they were exchanged for.
  const OrErrno<struct statx> other = StatAt(**source, CName(name).text());
  if (other.has_value() && other->stx_ino != inode) Moved(KeyOf(*other), from, name);
  return true;
}

OrErrno<uint64_t> Share::InodeUnder(NodeId parent, std::string_view name) {
  if (const int bad = CheckName(name); bad != 0) return Refuse(bad);
  const Descriptor directory = TRY(Locate(parent));
  return TRY(StatAt(*directory, CName(name).text())).stx_ino;
}

}  // namespace crosvm::shared_dir

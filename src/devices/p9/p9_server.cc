#include "devices/p9/p9_server.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

namespace crosvm::devices::p9 {

using shared_dir::Found;
using shared_dir::kRootNode;

namespace {

// Where in the path of a qid the number of its device is.
constexpr unsigned kDeviceShift = 48;
// A client that attaches without saying as whom: nobody.
constexpr uint32_t kNobody = 65534;

}  // namespace

Result<std::unique_ptr<Server>> Server::Create(shared_dir::Share& share, sys::BorrowedFd fids,
                                               sys::UnixSocket unnamed_in,
                                               sys::UnixSocket unnamed_out, uint32_t max_open) {
  std::unique_ptr<Server> server(
      new Server(share, std::move(unnamed_in), std::move(unnamed_out), max_open));
  server->fids_ = TRY(FidTable::Create(share, server->open_budget_, server->unnamed_, fids));
  // TRUST: a predecessor's, which may have been taken over.
  const uint32_t kept = server->fids_->message_size();
  const bool plausible = kept >= kMinMessage && kept <= kMaxMessage;
  server->message_size_ = plausible ? kept : 0;
  return server;
}

Server::~Server() = default;

void Server::Reset() {
  fids_->Clear();
  locks_.Clear();
  message_size_ = 0;
  fids_->SetMessageSize(0);
  share_.ForgetAll();
}

Server::Handler Server::HandlerOf(uint8_t type) {
  switch (static_cast<Type>(type)) {
    case Type::kStatfs:
      return &Server::Statfs;
    case Type::kLopen:
      return &Server::Lopen;
    case Type::kLcreate:
      return &Server::Lcreate;
    case Type::kSymlink:
      return &Server::Symlink;
    case Type::kMknod:
      return &Server::Mknod;
    case Type::kRename:
      return &Server::Rename;
    case Type::kReadlink:
      return &Server::Readlink;
    case Type::kGetattr:
      return &Server::Getattr;
    case Type::kSetattr:
      return &Server::Setattr;
    case Type::kXattrwalk:
      return &Server::Xattrwalk;
    case Type::kXattrcreate:
      return &Server::Xattrcreate;
    case Type::kReaddir:
      return &Server::Readdir;
    case Type::kFsync:
      return &Server::Fsync;
    case Type::kLock:
      return &Server::Lock;
    case Type::kGetlock:
      return &Server::Getlock;
    case Type::kLink:
      return &Server::Link;
    case Type::kMkdir:
      return &Server::Mkdir;
    case Type::kRenameat:
      return &Server::Renameat;
    case Type::kUnlinkat:
      return &Server::Unlinkat;
    case Type::kVersion:
      return &Server::Version;
    case Type::kAuth:
      return &Server::Auth;
    case Type::kAttach:
      return &Server::Attach;
    case Type::kWalk:
      return &Server::Walk;
    case Type::kRead:
      return &Server::Read;
    case Type::kWrite:
      return &Server::Write;
    case Type::kClunk:
      return &Server::Clunk;
    case Type::kRemove:
      return &Server::Remove;
    case Type::kLerror:
    case Type::kFlush:
      break;
  }
  return nullptr;
}

Answer Server::Failure(uint16_t tag, int error, uint64_t answer_limit) {
  if (answer_limit < kErrorBytes) return {};
  MessageWriter out;
  out.U32(static_cast<uint32_t>(error));
  return {.bytes = std::move(out).Finish(AnswerTo(Type::kLerror), tag)};
}

Answer Server::Handle(const Request& request) {
  MessageReader in(request.bytes);
  const uint32_t size = in.U32();
  const uint8_t type = in.U8();
  const uint16_t tag = in.U16();
  if (!in.ok() || size < kHeaderBytes) return Failure(kNoTag, EINVAL, request.answer_limit);
  const Handler handler = HandlerOf(type);
  if (handler == nullptr) return Failure(tag, EOPNOTSUPP, request.answer_limit);
  const bool begins = type == static_cast<uint8_t>(Type::kVersion);
  if (!begins && message_size_ == 0) return Failure(tag, EINVAL, request.answer_limit);

  Call call{.request = request, .in = in, .out = MessageWriter()};
  const OkOrErrno done = (this->*handler)(call);
  if (!done.has_value()) return Failure(tag, done.error().value, request.answer_limit);
  if (call.out.size() + call.data_bytes > request.answer_limit) {
    return Failure(tag, EMSGSIZE, request.answer_limit);
  }
  return {
      .bytes = std::move(call.out).Finish(AnswerTo(static_cast<Type>(type)), tag, call.data_bytes),
      .data_bytes = call.data_bytes};
}

// --- what handlers share -------------------------------------------------------------------------

OrErrno<std::shared_ptr<Fid>> Server::FidOf(uint32_t number) {
  std::shared_ptr<Fid> fid = fids_->Find(number);
  if (fid == nullptr) return Refuse(EBADF);
  return fid;
}

shared_dir::Caller Server::CallerOf(const Fid& fid, uint32_t group) const {
  // The client has applied its umask already.
  return {.user = fid.user() == kNoUser ? kNobody : fid.user(), .group = group, .umask = 0};
}

uint64_t Server::PathOf(uint64_t device, uint64_t inode) {
  return inode ^ (uint64_t{fids_->DeviceIndex(device)} << kDeviceShift);
}

Qid Server::QidOf(const struct statx& attributes) {
  Qid qid;
  if (S_ISDIR(attributes.stx_mode)) qid.type = kQidDirectory;
  if (S_ISLNK(attributes.stx_mode)) qid.type = kQidLink;
  // Changes with the file; never 0, which forbids the client to cache.
  const auto seconds = static_cast<uint64_t>(attributes.stx_mtime.tv_sec);
  const uint64_t mixed =
      (seconds * 1'000'000'007) ^ attributes.stx_mtime.tv_nsec ^ (attributes.stx_size << 8);
  qid.version = static_cast<uint32_t>(mixed ^ (mixed >> 32)) | 1;
  qid.path = PathOf((uint64_t{attributes.stx_dev_major} << 32) | attributes.stx_dev_minor,
                    attributes.stx_ino);
  return qid;
}

uint32_t Server::RoomFor(const Call& call, uint32_t header) const {
  const uint64_t limit = std::min<uint64_t>(call.request.answer_limit, message_size_.load());
  return limit > header ? static_cast<uint32_t>(limit - header) : 0;
}

// --- the session ---------------------------------------------------------------------------------

OkOrErrno Server::Version(Call& call) {
  const uint32_t wanted = call.in.U32();
  const std::string_view version = call.in.String();
  if (!call.in.ok()) return Refuse(EINVAL);
  Reset();
  if (version != kVersionText) {
    call.out.U32(std::min(wanted, kMaxMessage)).String("unknown");
    return {};
  }
  if (wanted < kMinMessage) return Refuse(EMSGSIZE);
  const uint32_t size = std::min(wanted, kMaxMessage);
  message_size_ = size;
  fids_->SetMessageSize(size);
  call.out.U32(size).String(kVersionText);
  return {};
}

// There is nothing to prove: who can talk to the device has the share.
OkOrErrno Server::Auth(Call&) {
  return Refuse(EOPNOTSUPP);
}

OkOrErrno Server::Attach(Call& call) {
  const uint32_t number = call.in.U32();
  const uint32_t auth = call.in.U32();
  call.in.String();  // the user's name; the number counts
  const std::string_view tree = call.in.String();
  const uint32_t user = call.in.U32();
  if (!call.in.ok()) return Refuse(EINVAL);
  if (auth != kNoFid) return Refuse(EOPNOTSUPP);
  // The share is one tree.
  if (!tree.empty() && tree != "/") return Refuse(ENOENT);
  const struct statx attributes = TRY(share_.Stat(kRootNode));
  TRY(share_.Reference(kRootNode));
  auto fid = std::make_shared<Fid>(share_, open_budget_, kRootNode, user);
  TRY(call.request.replayed ? fids_->Replace(number, std::move(fid))
                            : fids_->Insert(number, std::move(fid)));
  call.out.Id(QidOf(attributes));
  return {};
}

// Goes as far as it can. `reached` holds a reference when all names were found.
OkOrErrno Server::WalkNames(Call& call, uint16_t count, NodeId start, std::vector<Qid>& qids,
                            NodeId& reached) {
  TRY(share_.Reference(start));
  reached = start;
  for (uint16_t i = 0; i < count; ++i) {
    const std::string_view name = call.in.String();
    OrErrno<Found> found = Refuse(EINVAL);
    if (call.in.ok()) {
      found = name == ".." ? share_.LookupParent(reached) : share_.Lookup(reached, name);
    }
    share_.Forget(reached, 1);
    if (!found.has_value()) return std::unexpected(found.error());
    reached = found->node;
    qids.push_back(QidOf(found->attributes));
  }
  return {};
}

// The predecessor may have walked the fid already: if these names lead from where it noted that it
// was to where it is, it goes there once more. A place that is not known any more leads nowhere.
NodeId Server::WalkStart(const Call& call, uint32_t number, const Fid& fid, uint16_t count) {
  if (!call.request.replayed) {
    // Should this be the walk that a successor gets, an earlier one must not count as it.
    fids_->ForgetWalk(number);
    return fid.node();
  }
  const NodeId from = fids_->WalkedFrom(number);
  if (from == 0) return fid.node();
  Call again{.request = call.request, .in = call.in, .out = {}};
  std::vector<Qid> qids;
  NodeId reached = 0;
  if (!WalkNames(again, count, from, qids, reached).has_value()) return fid.node();
  share_.Forget(reached, 1);
  return reached == fid.node() ? from : fid.node();
}

OkOrErrno Server::Walk(Call& call) {
  const uint32_t number = call.in.U32();
  const uint32_t new_number = call.in.U32();
  const uint16_t count = call.in.U16();
  if (!call.in.ok() || count > kMaxWalkNames) return Refuse(EINVAL);
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  if (fid->open() && new_number == number) return Refuse(EBUSY);
  std::vector<Qid> qids;
  NodeId reached = 0;
  const bool same = new_number == number;
  const NodeId start = same ? WalkStart(call, number, *fid, count) : fid->node();
  const OkOrErrno walked = WalkNames(call, count, start, qids, reached);
  if (!walked.has_value() && qids.empty()) return walked;
  // Part of the way is an answer too, but no fid.
  if (walked.has_value()) {
    auto made = std::make_shared<Fid>(share_, open_budget_, reached, fid->user());
    TRY(same || call.request.replayed
            ? fids_->Replace(new_number, std::move(made), same ? start : 0)
            : fids_->Insert(new_number, std::move(made)));
  }
  call.out.U16(static_cast<uint16_t>(qids.size()));
  for (const Qid& qid : qids) call.out.Id(qid);
  return {};
}

OkOrErrno Server::Close(Fid& fid) {
  locks_.Release(fid);
  std::unique_ptr<Xattr> xattr;
  {
    const MutexLock lock(fid.mutex);
    if (fid.xattr_lost) return Refuse(EIO);
    xattr = std::move(fid.xattr);
  }
  if (xattr == nullptr || !xattr->writing) return {};
  if (xattr->value.size() != xattr->announced) return Refuse(EINVAL);
  // The protocol's way to remove one: nothing takes its place.
  if (xattr->announced == 0) return share_.RemoveXattr(fid.node(), xattr->name);
  shared_dir::KeepSetIdBits(fid.user() == 0);
  return share_.SetXattr(fid.node(), xattr->name, xattr->value, xattr->flags);
}

OkOrErrno Server::Clunk(Call& call) {
  const uint32_t number = call.in.U32();
  if (!call.in.ok()) return Refuse(EINVAL);
  const std::shared_ptr<Fid> fid = fids_->Find(number);
  if (fid == nullptr) {
    if (call.request.replayed) return {};
    return Refuse(EBADF);
  }
  const OkOrErrno closed = Close(*fid);
  // Only now: as long as the fid is there, a successor does not take the work for done.
  if (!fids_->Remove(number, *fid)) return Refuse(EBADF);
  return closed;
}

// Whatever happens, the fid is gone afterwards.
OkOrErrno Server::Remove(Call& call) {
  const uint32_t number = call.in.U32();
  if (!call.in.ok()) return Refuse(EINVAL);
  const std::shared_ptr<Fid> fid = fids_->Find(number);
  if (fid == nullptr) {
    if (call.request.replayed) return {};
    return Refuse(EBADF);
  }
  const OkOrErrno closed = Close(*fid);
  const OkOrErrno removed = [&]() -> OkOrErrno {
    if (fid->node() == kRootNode) return Refuse(EBUSY);
    const shared_dir::NodePlace place = TRY(share_.nodes().Place(fid->node()));
    return Unlink(call, place.parent == 0 ? kRootNode : place.parent, place.name(),
                  S_ISDIR(place.key.type));
  }();
  // As in Clunk().
  if (!fids_->Remove(number, *fid)) return Refuse(EBADF);
  return removed.has_value() ? closed : removed;
}

}  // namespace crosvm::devices::p9

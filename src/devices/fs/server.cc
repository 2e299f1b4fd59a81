#include "devices/fs/server.h"

#include <algorithm>
#include <array>

#include "base/log.h"

namespace crosvm::devices::fs {

using shared_dir::Errno;
using shared_dir::Refuse;

Server::Server(std::unique_ptr<shared_dir::Share> share, sys::UnixSocket unnamed_in,
               sys::UnixSocket unnamed_out, const ServerOptions& options)
    : options_(options),
      share_(std::move(share)),
      unnamed_(std::move(unnamed_in), std::move(unnamed_out)) {
}

Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::Create(std::unique_ptr<shared_dir::Share> share,
                                               sys::BorrowedFd state, sys::UnixSocket unnamed_in,
                                               sys::UnixSocket unnamed_out,
                                               const ServerOptions& options) {
  std::unique_ptr<Server> server(
      new Server(std::move(share), std::move(unnamed_in), std::move(unnamed_out), options));
  SessionState session = TRY(SessionState::Create(state, options.max_open));
  server->session_ = std::make_unique<SessionState>(std::move(session));
  server->open_ = std::make_unique<OpenFiles>(*server->share_, *server->session_, server->unnamed_,
                                              options.max_open);
  return server;
}

const Server::Operation* Server::Find(uint32_t opcode) {
  // By opcode, so that a request costs no search.
  static constexpr auto kOperations = [] {
    std::array<Operation, kOpStatx + 1> table{};
    table[FUSE_LOOKUP] = {&Server::Lookup};
    table[FUSE_FORGET] = {.handler = &Server::ForgetOne, .once = true, .answered = false};
    table[FUSE_GETATTR] = {&Server::GetAttr};
    table[FUSE_SETATTR] = {&Server::SetAttr};
    table[FUSE_READLINK] = {&Server::ReadLink};
    table[FUSE_SYMLINK] = {&Server::Symlink, true};
    table[FUSE_MKNOD] = {&Server::MkNod, true};
    table[FUSE_MKDIR] = {&Server::MkDir, true};
    table[FUSE_UNLINK] = {&Server::Unlink, true};
    table[FUSE_RMDIR] = {&Server::RmDir, true};
    table[FUSE_RENAME] = {&Server::Rename, true};
    table[FUSE_RENAME2] = {&Server::Rename2, true};
    table[FUSE_LINK] = {&Server::Link, true};
    table[FUSE_OPEN] = {&Server::Open, true};
    table[FUSE_READ] = {&Server::Read};
    table[FUSE_WRITE] = {&Server::Write, true};
    table[FUSE_STATFS] = {&Server::StatFs};
    table[FUSE_RELEASE] = {&Server::Release};
    table[FUSE_FSYNC] = {&Server::Fsync};
    table[FUSE_SETXATTR] = {&Server::SetXattr, true};
    table[FUSE_GETXATTR] = {&Server::GetXattr};
    table[FUSE_LISTXATTR] = {&Server::ListXattr};
    table[FUSE_REMOVEXATTR] = {&Server::RemoveXattr, true};
    table[FUSE_INIT] = {&Server::Init};
    table[FUSE_OPENDIR] = {&Server::OpenDir, true};
    table[FUSE_READDIR] = {&Server::ReadDir};
    table[FUSE_READDIRPLUS] = {&Server::ReadDirPlus};
    table[FUSE_RELEASEDIR] = {&Server::Release};
    table[FUSE_FSYNCDIR] = {&Server::Fsync};
    table[FUSE_CREATE] = {&Server::Create, true};
    table[FUSE_TMPFILE] = {&Server::TmpFile};
    table[FUSE_INTERRUPT] = {.handler = &Server::Interrupt, .once = false, .answered = false};
    table[FUSE_DESTROY] = {&Server::Destroy};
    table[FUSE_IOCTL] = {&Server::Ioctl};
    table[FUSE_BATCH_FORGET] = {.handler = &Server::ForgetMany, .once = true, .answered = false};
    table[FUSE_FALLOCATE] = {&Server::Fallocate, true};
    table[FUSE_LSEEK] = {&Server::Lseek};
    table[FUSE_COPY_FILE_RANGE] = {&Server::CopyFileRange, true};
    table[FUSE_SETUPMAPPING] = {&Server::SetupMapping};
    table[FUSE_REMOVEMAPPING] = {&Server::RemoveMapping};
    table[FUSE_SYNCFS] = {&Server::SyncFs};
    table[kOpStatx] = {&Server::Statx};
    return table;
  }();
  // The rest is answered ENOSYS, upon which the kernel does without: FLUSH (nothing is buffered
  // here), ACCESS (the guest's kernel checks permissions), locks (which it keeps itself), BMAP,
  // POLL.
  static constexpr Operation kNone{&Server::NotImplemented};
  if (opcode >= kOperations.size() || kOperations[opcode].handler == nullptr) return &kNone;
  return &kOperations[opcode];
}

uint32_t Server::Handle(std::span<const memory::GuestSlice> readable,
                        std::span<const memory::GuestSlice> writable, Worker& worker,
                        bool recovered) {
  std::optional<Request> request = Request::Parse(readable, writable, worker.buffers);
  if (!request) return 0;
  const fuse_in_header& header = request->header();
  const Operation& operation = *Find(header.opcode);
  Attempt attempt;
  if (operation.once) attempt = Note(header, worker, recovered);
  OkOrErrno result = attempt.before == Stage::kDone && attempt.value < 0
                         ? Refuse(static_cast<int>(-attempt.value))
                         : (this->*operation.handler)(*request, attempt);
  if (operation.once) {
    SessionState::Intent& intent = *worker.intent;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    intent.value = result.has_value() ? attempt.result : -result.error().value;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    intent.stage = Stage::kDone;
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  return operation.answered ? request->Finish(result) : 0;
}

Server::Attempt Server::Note(const fuse_in_header& header, Worker& worker, bool recovered) {
  if (recovered) {
    if (SessionState::Intent* const found = session_->Adopt(header.unique, header.opcode)) {
      if (worker.intent != nullptr) session_->Release(*worker.intent);
      worker.intent = found;
      return {.before = found->stage, .value = found->value, .note = found};
    }
  }
  if (worker.intent == nullptr) worker.intent = &session_->Claim();
  SessionState::Intent& intent = *worker.intent;
  intent.stage = Stage::kNone;
  // ORDERING: here and above, a successor of this process reads it, so the compiler's order is all
  // that matters.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  intent.unique = header.unique;
  intent.opcode = header.opcode;
  intent.value = 0;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  intent.stage = Stage::kBegun;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return {.note = &intent};
}

void Server::Answered(Worker& worker) {
  if (worker.intent != nullptr) worker.intent->stage = Stage::kNone;
}

uint32_t Server::AnswerUnreachable(std::span<const memory::GuestSlice> readable,
                                   std::span<const memory::GuestSlice> writable, Worker& worker) {
  std::optional<Request> request = Request::Parse(readable, writable, worker.buffers);
  return request ? request->Finish(Refuse(EFAULT)) : 0;
}

void Server::Forget() {
  open_->RemoveAll();
  share_->ForgetAll();
  session_->SetNegotiated(0);
  session_->ForgetIntents();
}

// --- the session ---------------------------------------------------------------------------------

Server::OkOrErrno Server::Init(Request& request, Attempt&) {
  // Since 7.36 it is longer; before, what follows is not there.
  fuse_init_in in{};
  const std::string_view rest = TRY(request.TakeRest());
  if (rest.size() < offsetof(fuse_init_in, flags2)) return Refuse(EINVAL);
  memcpy(&in, rest.data(), std::min(rest.size(), sizeof(in)));
  fuse_init_out out{};
  out.major = kMajor;
  out.minor = kMinor;
  if (in.major != kMajor) {
    // A newer kernel asks again with what we speak (fuse.h, "Protocol changelog").
    return in.major > kMajor ? request.PutStruct(out) : Refuse(EPROTO);
  }
  if (in.minor < kOldestMinor) {
    LOG_WARN("the guest speaks FUSE 7.{}; the share needs Linux 4.20 or later", in.minor);
    return Refuse(EPROTO);
  }
  const uint64_t offered =
      in.flags | ((in.flags & FUSE_INIT_EXT) != 0 ? uint64_t{in.flags2} << 32 : 0);
  uint64_t wanted = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_DONT_MASK |
                    FUSE_HAS_IOCTL_DIR | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |
                    FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_ABORT_ERROR | FUSE_MAX_PAGES |
                    FUSE_SUBMOUNTS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT | FUSE_INIT_EXT |
                    kDirectIoAllowMmap;
  if (options_.cache == Cache::kAuto) wanted |= FUSE_AUTO_INVAL_DATA;
  if (options_.cache != Cache::kNever) wanted |= FUSE_CACHE_SYMLINKS;
  if (options_.writeback) wanted |= FUSE_WRITEBACK_CACHE;
  if (options_.posix_acl) wanted |= FUSE_POSIX_ACL;
  if (window() != nullptr) wanted |= FUSE_MAP_ALIGNMENT | FUSE_HAS_INODE_DAX;
  const uint64_t agreed = offered & wanted;
  if (options_.posix_acl && (agreed & FUSE_POSIX_ACL) == 0) return Refuse(EPROTO);

  // A kernel that says INIT knows nothing of what another one (before a reboot) had open.
  Forget();
  session_->SetNegotiated(agreed);
  out.max_readahead = in.max_readahead;
  out.flags = static_cast<uint32_t>(agreed);
  out.flags2 = static_cast<uint32_t>(agreed >> 32);
  out.max_background = UINT16_MAX;
  out.congestion_threshold = UINT16_MAX / 4 * 3;
  out.max_write = kMaxTransfer;
  out.time_gran = 1;
  out.max_pages = kMaxPages;
  out.map_alignment = kMapAlignment;
  return request.PutStruct(out);
}

Server::OkOrErrno Server::Destroy(Request&, Attempt&) {
  UnmapWindow();
  Forget();
  return {};
}

Server::OkOrErrno Server::ForgetOne(Request& request, Attempt& attempt) {
  // Done or not: what is forgotten once too seldom costs memory until the guest unmounts, once too
  // often the guest its file.
  if (attempt.before != Stage::kNone) return {};
  const fuse_forget_in in = TRY(request.Take<fuse_forget_in>());
  share_->Forget(request.node(), in.nlookup);
  return {};
}

Server::OkOrErrno Server::ForgetMany(Request& request, Attempt& attempt) {
  if (attempt.before != Stage::kNone) return {};
  const fuse_batch_forget_in in = TRY(request.Take<fuse_batch_forget_in>());
  if (in.count > kMaxForgets) return Refuse(EINVAL);
  for (uint32_t i = 0; i < in.count; ++i) {
    const fuse_forget_one one = TRY(request.Take<fuse_forget_one>());
    share_->Forget(one.nodeid, one.nlookup);
  }
  return {};
}

Server::OkOrErrno Server::Interrupt(Request&, Attempt&) {
  // No request waits for anything but the host's file system.
  return {};
}

Server::OkOrErrno Server::NotImplemented(Request&, Attempt&) {
  return Refuse(ENOSYS);
}

}  // namespace crosvm::devices::fs

// A 9P2000.L session with one client, on a share. Bytes in, bytes out: knows nothing of rings. Each
// request is handled at once on the calling thread (a worker of the device, which may block in the
// host's file system); requests are handled on several threads at once. Tflush is the device's
// affair, which knows what is under way.
//
// What the client sends is not trusted: numbers are looked up, names go to the share, which lets
// none out of the directory, sizes are bounded.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "devices/p9/fid.h"
#include "devices/p9/lock_table.h"
#include "devices/p9/p9_wire.h"
#include "shared_dir/share.h"

namespace crosvm::devices::p9 {

struct Request {
  // The whole message; of a Twrite all but its data.
  std::span<const uint8_t> bytes;
  std::span<const iovec> data;  // of a Twrite: what it announces, or less
  std::span<const iovec> room;  // for the data of an Rread, behind its header
  uint64_t answer_limit = 0;    // bytes that an answer may have, room included
  // A predecessor had begun it when it died and may have done it already.
  bool replayed = false;
};

struct Answer {
  std::vector<uint8_t> bytes;  // empty: there is no way to answer
  uint32_t data_bytes = 0;     // more of it, in the request's room
};

class Server {
 public:
  // `share` outlives the server. `fids` is FidTable's state, the sockets are UnnamedStore's. At
  // most `max_open` files are open at once.
  static Result<std::unique_ptr<Server>> Create(shared_dir::Share& share, sys::BorrowedFd fids,
                                                sys::UnixSocket unnamed_in,
                                                sys::UnixSocket unnamed_out, uint32_t max_open);
  ~Server();

  Answer Handle(const Request& request);
  // An Rlerror, or nothing where not even that fits.
  static Answer Failure(uint16_t tag, int error, uint64_t answer_limit);

  // The driver is gone: nothing of the session is left.
  void Reset();
  size_t fids() { return fids_->size(); }

 private:
  // A request while it is being handled: `in` stands behind the header.
  struct Call {
    const Request& request;
    MessageReader in;
    MessageWriter out;
    uint32_t data_bytes = 0;
  };
  using Handler = OkOrErrno (Server::*)(Call&);
  static Handler HandlerOf(uint8_t type);

  Server(shared_dir::Share& share, sys::UnixSocket unnamed_in, sys::UnixSocket unnamed_out,
         uint32_t max_open)
      : share_(share),
        unnamed_(std::move(unnamed_in), std::move(unnamed_out)),
        open_budget_(max_open, ENFILE),
        locks_(share, open_budget_) {}

  // p9_server.cc: the session and its fids
  OkOrErrno Version(Call& call);
  OkOrErrno Auth(Call& call);
  OkOrErrno Attach(Call& call);
  OkOrErrno Walk(Call& call);
  OkOrErrno Clunk(Call& call);
  OkOrErrno Remove(Call& call);
  // p9_files.cc: what is done with one file
  OkOrErrno Lopen(Call& call);
  OkOrErrno Read(Call& call);
  OkOrErrno Write(Call& call);
  OkOrErrno Readdir(Call& call);
  OkOrErrno Getattr(Call& call);
  OkOrErrno Setattr(Call& call);
  OkOrErrno Fsync(Call& call);
  OkOrErrno Statfs(Call& call);
  OkOrErrno Readlink(Call& call);
  OkOrErrno Lock(Call& call);
  OkOrErrno Getlock(Call& call);
  OkOrErrno Xattrwalk(Call& call);
  OkOrErrno Xattrcreate(Call& call);
  // p9_names.cc: what changes names
  OkOrErrno Lcreate(Call& call);
  OkOrErrno Mkdir(Call& call);
  OkOrErrno Mknod(Call& call);
  OkOrErrno Symlink(Call& call);
  OkOrErrno Link(Call& call);
  OkOrErrno Rename(Call& call);
  OkOrErrno Renameat(Call& call);
  OkOrErrno Unlinkat(Call& call);

  OrErrno<std::shared_ptr<Fid>> FidOf(uint32_t number);
  OkOrErrno Close(Fid& fid);  // what a clunk does for the fid's sake
  // Where a walk of the fid itself begins.
  NodeId WalkStart(const Call& call, uint32_t number, const Fid& fid, uint16_t count);
  OkOrErrno WalkNames(Call& call, uint16_t count, NodeId start, std::vector<Qid>& qids,
                      NodeId& reached);
  OkOrErrno ReadXattr(Call& call, const Xattr& xattr, uint64_t offset, uint32_t count);
  OkOrErrno WriteXattr(Call& call, Xattr& xattr, uint64_t offset, uint32_t count);
  OkOrErrno Move(Call& call, NodeId from, std::string_view name, NodeId to,
                 std::string_view new_name);
  OkOrErrno Unlink(Call& call, NodeId parent, std::string_view name, bool directory);
  // What has this name is to lose it; has lost it.
  std::optional<shared_dir::KnownName> BeforeNameGoes(NodeId parent, std::string_view name);
  void AfterNameWent(const shared_dir::KnownName& known, NodeId parent, std::string_view name);
  // Answers with the qid of what was made, and forgets the reference; with `error` after a replayed
  // request, whose name is there already.
  OkOrErrno AnswerMade(Call& call, OrErrno<shared_dir::Found> made, NodeId parent,
                       std::string_view name);
  shared_dir::Caller CallerOf(const Fid& fid, uint32_t group) const;
  Qid QidOf(const struct statx& attributes);
  uint64_t PathOf(uint64_t device, uint64_t inode);
  // Bytes of data that an answer with `header` bytes before it can carry.
  uint32_t RoomFor(const Call& call, uint32_t header) const;

  shared_dir::Share& share_;
  shared_dir::UnnamedStore unnamed_;
  // Before the fids, which give back to them.
  Budget open_budget_;  // files: fids', and one a locked file
  Budget xattr_budget_{Xattr::kMaxBytes, ENOMEM};
  std::unique_ptr<FidTable> fids_;
  LockTable locks_;
  std::atomic<uint32_t> message_size_{0};  // 0: no session
};

}  // namespace crosvm::devices::p9

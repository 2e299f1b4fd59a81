// The FUSE server: what each request of the guest's kernel means for the shared directory. Knows no
// queues and no loop; called by the workers of FsDevice, several at a time, and by tests and the
// fuzzer directly. No lock that requests pass (but the DAX window's): state is in Share (by shard),
// OpenFiles (by shard) and SessionState. What is mapped in the window is known to the VMM alone, so
// that a successor of this process has nothing to take over.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "config/shared_dir_options.h"
#include "devices/fs/open_files.h"
#include "devices/fs/request.h"
#include "devices/fs/session_state.h"
#include "shared_dir/share.h"
#include "shared_dir/unnamed_store.h"
#include "virtio/device.h"

namespace crosvm::devices::fs {

using Cache = config::FsCache;

struct ServerOptions {
  Cache cache = Cache::kAuto;
  uint64_t timeout = 5;  // seconds that names and attributes stay valid in the guest
  bool writeback = false;
  bool posix_acl = false;
  uint32_t max_open = 1024;
  uint64_t dax_window = 0;  // bytes of the shared memory in which the guest has files; 0: none
};

class Server {
 public:
  // `state`: a sealed memfd of SessionState::Bytes(options.max_open).
  static Result<std::unique_ptr<Server>> Create(std::unique_ptr<shared_dir::Share> share,
                                                sys::BorrowedFd state, sys::UnixSocket unnamed_in,
                                                sys::UnixSocket unnamed_out,
                                                const ServerOptions& options);
  ~Server();

  // One worker's place; there are at most kMaxWorkers.
  struct Worker {
    SessionState::Intent* intent = nullptr;  // its note, from its first request on
    WorkerBuffers buffers;
  };

  // Carries out the request in a chain. Returns the bytes written to `writable`. `recovered`: the
  // chain was in flight when a predecessor died, which may have worked on it.
  uint32_t Handle(std::span<const memory::GuestSlice> readable,
                  std::span<const memory::GuestSlice> writable, Worker& worker, bool recovered);

  // The driver has the answer to what Handle() did last for this worker, so that no successor will
  // be asked again. Also for requests without one.
  static void Answered(Worker& worker);

  // As Handle(), for a chain of which parts are not in memory: EFAULT, and nothing is done.
  static uint32_t AnswerUnreachable(std::span<const memory::GuestSlice> readable,
                                    std::span<const memory::GuestSlice> writable, Worker& worker);

  // The driver is gone without a word (reset): as DESTROY, but for the window, which the VMM
  // clears.
  void Forget();

  // The way to the window. Until it is given, and without one, no DAX is offered.
  void SetWindow(std::shared_ptr<virtio::SharedMemoryMapper> window) CROSVM_EXCLUDES(window_mutex_);

  shared_dir::Share& share() { return *share_; }

 private:
  using OkOrErrno = shared_dir::OkOrErrno;
  template <typename T>
  using OrErrno = shared_dir::OrErrno<T>;
  using Stage = SessionState::Stage;

  // What is known about an earlier attempt at the request, and what this one notes.
  struct Attempt {
    Stage before = Stage::kNone;
    int64_t value = 0;   // of the earlier attempt: what came of it, or was foreseen
    int64_t result = 0;  // to be noted of this one
    SessionState::Intent* note = nullptr;
    // Before the work: what a successor will need to find out whether it was done. Not 0.
    void Foresee(int64_t what) const { note->value = what; }
    bool MayHaveHappened(const OkOrErrno& result_now, int error) const {
      return before == Stage::kBegun && !result_now.has_value() &&
             result_now.error().value == error;
    }
  };
  using Handler = OkOrErrno (Server::*)(Request&, Attempt&);
  struct Operation {
    Handler handler = nullptr;
    bool once = false;  // cannot simply be done again
    bool answered = true;
  };
  static const Operation* Find(uint32_t opcode);
  // Notes that a request begins that cannot simply be done again; gives what a predecessor noted of
  // it.
  Attempt Note(const fuse_in_header& header, Worker& worker, bool recovered);

  Server(std::unique_ptr<shared_dir::Share> share, sys::UnixSocket unnamed_in,
         sys::UnixSocket unnamed_out, const ServerOptions& options);

  // server.cc: the session
  OkOrErrno Init(Request& request, Attempt& attempt);
  OkOrErrno Destroy(Request& request, Attempt& attempt);
  OkOrErrno ForgetOne(Request& request, Attempt& attempt);
  OkOrErrno ForgetMany(Request& request, Attempt& attempt);
  OkOrErrno Interrupt(Request& request, Attempt& attempt);
  OkOrErrno NotImplemented(Request& request, Attempt& attempt);

  // server_names.cc
  OkOrErrno Lookup(Request& request, Attempt& attempt);
  OkOrErrno GetAttr(Request& request, Attempt& attempt);
  OkOrErrno Statx(Request& request, Attempt& attempt);
  OkOrErrno SetAttr(Request& request, Attempt& attempt);
  OkOrErrno ReadLink(Request& request, Attempt& attempt);
  OkOrErrno Symlink(Request& request, Attempt& attempt);
  OkOrErrno MkNod(Request& request, Attempt& attempt);
  OkOrErrno MkDir(Request& request, Attempt& attempt);
  OkOrErrno Unlink(Request& request, Attempt& attempt);
  OkOrErrno RmDir(Request& request, Attempt& attempt);
  OkOrErrno Rename(Request& request, Attempt& attempt);
  OkOrErrno Rename2(Request& request, Attempt& attempt);
  OkOrErrno Link(Request& request, Attempt& attempt);
  OkOrErrno SetXattr(Request& request, Attempt& attempt);
  OkOrErrno GetXattr(Request& request, Attempt& attempt);
  OkOrErrno ListXattr(Request& request, Attempt& attempt);
  OkOrErrno RemoveXattr(Request& request, Attempt& attempt);
  OkOrErrno StatFs(Request& request, Attempt& attempt);

  // server_files.cc
  OkOrErrno Open(Request& request, Attempt& attempt);
  OkOrErrno OpenDir(Request& request, Attempt& attempt);
  OkOrErrno Create(Request& request, Attempt& attempt);
  OkOrErrno TmpFile(Request& request, Attempt& attempt);
  OkOrErrno Read(Request& request, Attempt& attempt);
  OkOrErrno Write(Request& request, Attempt& attempt);
  OkOrErrno Release(Request& request, Attempt& attempt);
  OkOrErrno Fsync(Request& request, Attempt& attempt);
  OkOrErrno SyncFs(Request& request, Attempt& attempt);
  OkOrErrno Fallocate(Request& request, Attempt& attempt);
  OkOrErrno Lseek(Request& request, Attempt& attempt);
  OkOrErrno CopyFileRange(Request& request, Attempt& attempt);
  OkOrErrno Ioctl(Request& request, Attempt& attempt);
  OkOrErrno ReadDir(Request& request, Attempt& attempt);
  OkOrErrno ReadDirPlus(Request& request, Attempt& attempt);

  // server_dax.cc
  OkOrErrno SetupMapping(Request& request, Attempt& attempt);
  OkOrErrno RemoveMapping(Request& request, Attempt& attempt);
  void UnmapWindow();
  // Null: no DAX.
  std::shared_ptr<virtio::SharedMemoryMapper> window() const CROSVM_EXCLUDES(window_mutex_);

  uint64_t seconds() const { return options_.cache == Cache::kNever ? 0 : options_.timeout; }
  bool Negotiated(uint64_t flag) const { return (session_->negotiated() & flag) != 0; }
  fuse_attr Attributes(shared_dir::NodeId node, const struct statx& from) const;
  fuse_entry_out Entry(const shared_dir::Found& found) const;
  // Answers with an entry; gives its reference back when the answer does not fit.
  OkOrErrno PutEntry(Request& request, const OrErrno<shared_dir::Found>& found);
  OkOrErrno PutAttributes(Request& request, const OrErrno<struct statx>& attributes);
  // The attributes of a node, by an open file where the guest names one.
  OrErrno<struct statx> StatNode(shared_dir::NodeId node, bool by_handle, uint64_t handle);
  OkOrErrno OpenNode(Request& request, Attempt& attempt, bool directory);
  OkOrErrno PutCreated(Request& request, Attempt& attempt, OrErrno<shared_dir::Created> created,
                       int flags);
  OkOrErrno Remove(Request& request, Attempt& attempt,
                   OkOrErrno (shared_dir::Share::*remove)(shared_dir::NodeId, std::string_view));
  // Keeps what is open under that name; gives what is to be told to AfterNameWent().
  std::optional<shared_dir::KnownName> BeforeNameGoes(shared_dir::NodeId parent,
                                                      std::string_view name);
  void AfterNameWent(const shared_dir::KnownName& known, shared_dir::NodeId parent,
                     std::string_view name);
  OkOrErrno RenameNames(Request& request, Attempt& attempt, uint64_t to, unsigned flags);
  // What a creation answers: `made`, or what the earlier attempt has made.
  template <typename Make>
  OkOrErrno MakeEntry(Request& request, Attempt& attempt, std::string_view name, Make&& make);
  int HostFlags(uint32_t flags) const;
  uint32_t OpenAnswer(bool directory) const;
  OkOrErrno ReadEntries(Request& request, bool plus);
  // False: no room left, nothing was put. A name of more than kMaxName bytes is left out.
  OrErrno<bool> PutDirent(Request& request, const OpenFile& directory, const struct dirent64& entry,
                          uint64_t room, bool plus);

  const ServerOptions options_;
  const std::unique_ptr<shared_dir::Share> share_;
  std::unique_ptr<SessionState> session_;
  shared_dir::UnnamedStore unnamed_;
  std::unique_ptr<OpenFiles> open_;

  mutable Mutex window_mutex_;
  std::shared_ptr<virtio::SharedMemoryMapper> window_ CROSVM_GUARDED_BY(window_mutex_);
};

}  // namespace crosvm::devices::fs

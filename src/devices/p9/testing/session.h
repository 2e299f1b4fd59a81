// A share in a temporary directory, a server on it, and a client that speaks 9P with it: for tests
// and the fuzzer.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "devices/p9/p9_server.h"
#include "jail/self_fds.h"
#include "sys/file.h"
#include "sys/memfd.h"

namespace crosvm::devices::p9::testing {

// What the server answered: its type, or the error of an Rlerror.
struct Reply {
  uint8_t type = 0;
  uint16_t tag = 0;
  uint32_t error = 0;
  std::vector<uint8_t> body;

  MessageReader Reader() const { return MessageReader(body); }
};

// Belongs to the thread that makes it, whose working directory and umask are its own from then on,
// as in the device. Fid 0 is the share's root.
class Session {
 public:
  explicit Session(shared_dir::ShareOptions options = {}, uint32_t max_open = 1024)
      : options_(options), max_open_(max_open) {
    options_.max_nodes = 4096;
    options_.hold_parents = true;
    char name[] = "/var/tmp/crosvm-9p-XXXXXX";
    CHECK(mkdtemp(name) != nullptr);
    outside_ = name;
    path_ = outside_ + "/share";
    CHECK(mkdir(path_.c_str(), 0755) == 0);
    nodes_ = *shared_dir::Share::MakeState(options_.max_nodes);
    fids_ = *sys::CreateSealedMemfd("fids", FidTable::StateBytes());
    auto [in, out] = *shared_dir::UnnamedStore::MakeSockets();
    unnamed_in_ = std::move(in);
    unnamed_out_ = std::move(out);
    Start();
    Begin();
  }
  ~Session() {
    server_.reset();
    share_.reset();
    nftw(
        outside_.c_str(),
        [](const char* file, const struct stat*, int, FTW*) { return remove(file); }, 16,
        FTW_DEPTH | FTW_PHYS);
  }

  // As a successor of a process that died.
  void Restart() {
    // What the dead one held stays in the shared memory; its destructors would give it back.
    dead_servers_.push_back(std::move(server_));
    dead_shares_.push_back(std::move(share_));
    Start();
  }

  std::string Path(const std::string& name) const { return path_ + "/" + name; }
  std::string Outside(const std::string& name) const { return outside_ + "/" + name; }
  void WriteFile(const std::string& name, std::string_view text) const {
    const sys::UniqueFd file(open(Path(name).c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644));
    CHECK(sys::WriteAll(file, text).has_value());
  }
  std::string ReadFile(const std::string& name) const {
    const auto text = sys::ReadFileToString(Path(name));
    return text.has_value() ? *text : "(none)";
  }

  std::unique_ptr<Server> MakeServer(sys::BorrowedFd fids) {
    return *Server::Create(*share_, fids, sys::UnixSocket(*unnamed_in_.fd().Dup()),
                           sys::UnixSocket(*unnamed_out_.fd().Dup()), max_open_);
  }
  Server& server() { return *server_; }
  shared_dir::Share& share() { return *share_; }
  const sys::UniqueFd& fids_state() const { return fids_; }
  const sys::UniqueFd& nodes_state() const { return nodes_; }

  // Sends a body; `data` goes as a write's, `room` bytes are there for a read's.
  Reply Call(Type type, MessageWriter body, std::string_view data = {}, bool replayed = false,
             uint64_t limit = kMaxMessage) {
    const std::vector<uint8_t> bytes = std::move(body).Finish(static_cast<uint8_t>(type), ++tag_,
                                                              static_cast<uint32_t>(data.size()));
    return Send(bytes, data, replayed, limit);
  }
  Reply Send(std::span<const uint8_t> bytes, std::string_view data = {}, bool replayed = false,
             uint64_t limit = kMaxMessage) {
    std::string copy(data);
    const iovec piece{copy.data(), copy.size()};
    std::vector<uint8_t> room(limit > kReadHeaderBytes ? limit - kReadHeaderBytes : 0);
    const iovec place{room.data(), room.size()};
    const Answer answer = server_->Handle({.bytes = bytes,
                                           .data = {&piece, 1},
                                           .room = {&place, 1},
                                           .answer_limit = limit,
                                           .replayed = replayed});
    Reply reply;
    if (answer.bytes.empty()) return reply;
    CHECK(answer.bytes.size() >= kHeaderBytes && answer.data_bytes <= room.size());
    CHECK(answer.bytes.size() + answer.data_bytes <= limit);
    MessageReader header(answer.bytes);
    CHECK(header.U32() == answer.bytes.size() + answer.data_bytes);
    reply.type = header.U8();
    reply.tag = header.U16();
    reply.body.assign(answer.bytes.begin() + kHeaderBytes, answer.bytes.end());
    reply.body.insert(reply.body.end(), room.begin(), room.begin() + answer.data_bytes);
    if (reply.type == AnswerTo(Type::kLerror)) reply.error = reply.Reader().U32();
    return reply;
  }

  // The steps that every test takes. Each returns the errno, 0 when it went well.
  void Begin(uint32_t user = 0) {
    MessageWriter version;
    version.U32(kMaxMessage).String(kVersionText);
    CHECK(Call(Type::kVersion, std::move(version)).type == AnswerTo(Type::kVersion));
    CHECK(Attach(0, user) == 0);
  }
  uint32_t Attach(uint32_t fid, uint32_t user) {
    MessageWriter attach;
    attach.U32(fid).U32(kNoFid).String("").String("").U32(user);
    return Call(Type::kAttach, std::move(attach)).error;
  }
  uint32_t Walk(uint32_t fid, uint32_t new_fid, const std::vector<std::string>& names) {
    MessageWriter walk;
    walk.U32(fid).U32(new_fid).U16(static_cast<uint16_t>(names.size()));
    for (const std::string& name : names) walk.String(name);
    const Reply reply = Call(Type::kWalk, std::move(walk));
    if (reply.error != 0) return reply.error;
    return reply.Reader().U16() == names.size() ? 0 : ENOENT;
  }
  uint32_t Open(uint32_t fid, int flags) {
    MessageWriter lopen;
    lopen.U32(fid).U32(static_cast<uint32_t>(flags));
    return Call(Type::kLopen, std::move(lopen)).error;
  }
  uint32_t Create(uint32_t fid, const std::string& name, int flags = O_RDWR, uint32_t mode = 0644,
                  bool replayed = false) {
    MessageWriter create;
    create.U32(fid).String(name).U32(static_cast<uint32_t>(flags)).U32(mode).U32(0);
    return Call(Type::kLcreate, std::move(create), {}, replayed).error;
  }
  // All that there is to ask for.
  Reply Getattr(uint32_t fid) {
    MessageWriter getattr;
    getattr.U32(fid).U64(UINT64_MAX);
    return Call(Type::kGetattr, std::move(getattr));
  }
  // The path in the fid's qid: which file it is.
  uint64_t PathOf(uint32_t fid) {
    const Reply reply = Getattr(fid);
    MessageReader in = reply.Reader();
    in.U64();
    in.U8();
    in.U32();
    return in.U64();
  }
  uint32_t Clunk(uint32_t fid) {
    MessageWriter clunk;
    clunk.U32(fid);
    return Call(Type::kClunk, std::move(clunk)).error;
  }
  std::string Read(uint32_t fid, uint64_t offset = 0, uint32_t count = 65536) {
    MessageWriter read;
    read.U32(fid).U64(offset).U32(count);
    const Reply reply = Call(Type::kRead, std::move(read));
    if (reply.error != 0) return "error " + std::to_string(reply.error);
    CHECK(reply.Reader().U32() == reply.body.size() - 4);
    return std::string(reply.body.begin() + 4, reply.body.end());
  }
  uint32_t Write(uint32_t fid, std::string_view text, uint64_t offset = 0) {
    MessageWriter write;
    write.U32(fid).U64(offset).U32(static_cast<uint32_t>(text.size()));
    return Call(Type::kWrite, std::move(write), text).error;
  }
  uint32_t Unlink(uint32_t fid, const std::string& name, uint32_t flags = 0,
                  bool replayed = false) {
    MessageWriter unlink;
    unlink.U32(fid).String(name).U32(flags);
    return Call(Type::kUnlinkat, std::move(unlink), {}, replayed).error;
  }
  uint32_t Rename(uint32_t from, const std::string& name, uint32_t to, const std::string& new_name,
                  bool replayed = false) {
    MessageWriter rename;
    rename.U32(from).String(name).U32(to).String(new_name);
    return Call(Type::kRenameat, std::move(rename), {}, replayed).error;
  }
  uint32_t MakeDirectory(uint32_t fid, const std::string& name, bool replayed = false) {
    MessageWriter make;
    make.U32(fid).String(name).U32(0755).U32(0);
    return Call(Type::kMkdir, std::move(make), {}, replayed).error;
  }
  uint32_t Symlink(uint32_t fid, const std::string& name, const std::string& target) {
    MessageWriter link;
    link.U32(fid).String(name).String(target).U32(0);
    return Call(Type::kSymlink, std::move(link)).error;
  }

 private:
  void Start() {
    sys::UniqueFd root = *sys::Open(path_, O_PATH | O_DIRECTORY);
    sys::UniqueFd self_fds = *jail::OpenSelfFds();
    CHECK(shared_dir::EnterWorkerThread(self_fds).has_value());
    share_ = *shared_dir::Share::Create(std::move(root), std::move(self_fds), nodes_, options_);
    server_ = MakeServer(fids_);
  }

  shared_dir::ShareOptions options_;
  const uint32_t max_open_;
  std::string outside_;
  std::string path_;
  sys::UniqueFd nodes_;
  sys::UniqueFd fids_;
  sys::UnixSocket unnamed_in_;
  sys::UnixSocket unnamed_out_;
  std::unique_ptr<shared_dir::Share> share_;
  std::unique_ptr<Server> server_;
  std::vector<std::unique_ptr<shared_dir::Share>> dead_shares_;
  std::vector<std::unique_ptr<Server>> dead_servers_;
  std::atomic<uint16_t> tag_ = 0;
};

}  // namespace crosvm::devices::p9::testing

// For tests: plays the guest's kernel against a Server, one raw FUSE request at a time.
//
//   FuseDriver fuse(directory);                         // a server on that directory
//   const FuseDriver::Answer answer = fuse.Send(FUSE_LOOKUP, FUSE_ROOT_ID, Text("name"));
//   answer.error; answer.As<fuse_entry_out>().nodeid;
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/fs/server.h"
#include "jail/self_fds.h"
#include "memory/guest_memory.h"
#include "shared_dir/identity.h"
#include "shared_dir/share.h"
#include "sys/file.h"
#include "sys/memfd.h"

namespace crosvm::devices::fs {

// Arguments of a request: bytes after one another.
class Bytes {
 public:
  template <typename T>
  Bytes& Struct(const T& value) {
    // SAFETY: T is a trivially copyable wire struct.
    const auto* const at = reinterpret_cast<const char*>(&value);
    data_.insert(data_.end(), at, at + sizeof(T));
    return *this;
  }
  // With its NUL.
  Bytes& Text(std::string_view text) {
    data_.insert(data_.end(), text.begin(), text.end());
    data_.push_back('\0');
    return *this;
  }
  Bytes& Raw(std::string_view text) {
    data_.insert(data_.end(), text.begin(), text.end());
    return *this;
  }
  const std::vector<char>& data() const { return data_; }
  std::string_view view() const { return {data_.data(), data_.size()}; }

 private:
  std::vector<char> data_;
};

inline Bytes Text(std::string_view text) {
  return std::move(Bytes().Text(text));
}
template <typename T>
Bytes Struct(const T& value) {
  return std::move(Bytes().Struct(value));
}

struct FuseDriverOptions {
  ServerOptions server;
  shared_dir::ShareOptions share{.max_nodes = 4096, .max_descriptors = 128};
  bool init = true;  // sends INIT
};

class FuseDriver {
 public:
  struct Answer {
    uint32_t written = 0;
    int error = 0;  // positive errno
    std::vector<char> data;

    template <typename T>
    T As(size_t offset = 0) const {
      T value{};
      EXPECT_LE(offset + sizeof(T), data.size());
      if (offset + sizeof(T) <= data.size()) memcpy(&value, data.data() + offset, sizeof(T));
      return value;
    }
    std::string text() const { return {data.begin(), data.end()}; }
  };

  explicit FuseDriver(const std::string& directory, const FuseDriverOptions& options = {})
      : directory_(directory), options_(options) {
    Result<sys::UniqueFd> nodes = shared_dir::Share::MakeState(options.share.max_nodes);
    Result<sys::UniqueFd> session =
        sys::CreateSealedMemfd("session", SessionState::Bytes(options.server.max_open));
    auto sockets = shared_dir::UnnamedStore::MakeSockets();
    nodes_ = std::move(*nodes);
    session_ = std::move(*session);
    unnamed_in_ = std::move(sockets->first);
    unnamed_out_ = std::move(sockets->second);
    memory_ = *memory::GuestMemory::Create(
        std::vector<memory::RegionLayout>{{.start = memory::GuestAddr(0), .size = 4U << 20}});
    Start();
    if (options.init) Init();
  }

  // A request leaves its umask to the thread, which here is the test's: the next test makes files.
  ~FuseDriver() {
    const shared_dir::ScopedCaller usual(
        {.user = geteuid(), .group = getegid(), .umask = S_IWGRP | S_IWOTH});
  }

  // A process that follows one that died: the same memory, nothing else.
  void Restart() {
    server_.reset();
    Start();
  }

  Answer Init(uint64_t flags = ~0ULL) {
    fuse_init_in in{};
    in.major = FUSE_KERNEL_VERSION;
    in.minor = 39;
    in.flags = static_cast<uint32_t>(flags);
    in.flags2 = static_cast<uint32_t>(flags >> 32);
    return Send(FUSE_INIT, 0, Struct(in));
  }

  Answer Send(uint32_t opcode, uint64_t node, const Bytes& arguments = {}, uint32_t room = 65536,
              bool recovered = false) {
    fuse_in_header header{};
    header.len = static_cast<uint32_t>(sizeof(header) + arguments.data().size());
    header.opcode = opcode;
    header.unique = recovered ? unique_ : ++unique_;
    header.nodeid = node;
    header.uid = user_;
    header.gid = group_;
    Bytes message = Struct(header);
    message.Raw({arguments.data().data(), arguments.data().size()});
    return SendRaw(message, room, recovered);
  }

  // As it stands, header and all.
  Answer SendRaw(const Bytes& message, uint32_t room = 65536, bool recovered = false) {
    // Two pieces each way, so that nothing relies on one.
    const memory::GuestAddr in(0x1000);
    const memory::GuestAddr out(0x200000);
    const std::vector<char>& data = message.data();
    // SAFETY: bytes as bytes.
    EXPECT_TRUE(
        memory_.WriteBytes(in, {reinterpret_cast<const uint8_t*>(data.data()), data.size()}));
    const memory::GuestSlice all = *memory_.Slice(in, data.size());
    const memory::GuestSlice answer = *memory_.Slice(out, room);
    const memory::GuestSlice readable[] = {all.Sub(0, data.size() / 2), all.Sub(data.size() / 2)};
    const memory::GuestSlice writable[] = {answer.Sub(0, room / 2), answer.Sub(room / 2)};
    Answer result;
    result.written = server_->Handle(readable, writable, worker_, recovered);
    EXPECT_LE(result.written, room);
    if (result.written < sizeof(fuse_out_header)) return result;
    std::vector<uint8_t> bytes(result.written);
    EXPECT_TRUE(memory_.ReadBytes(out, bytes));
    fuse_out_header header{};
    memcpy(&header, bytes.data(), sizeof(header));
    EXPECT_EQ(header.len, result.written);
    EXPECT_LE(header.error, 0);
    result.error = -header.error;
    result.data.assign(bytes.begin() + sizeof(header), bytes.end());
    return result;
  }

  // A request of a real kernel. Empty: it wants no answer. One that it sends again after its server
  // died (FUSE_NOTIFY_RESEND) is recovered.
  std::vector<char> Pass(std::span<const char> message) {
    constexpr uint64_t kResent = 1ULL << 63;  // FUSE_UNIQUE_RESEND
    std::vector<char> request(message.begin(), message.end());
    fuse_in_header header{};
    memcpy(&header, request.data(), sizeof(header));
    const bool recovered = (header.unique & kResent) != 0;
    const uint64_t unique = header.unique;
    header.unique &= ~kResent;
    memcpy(request.data(), &header, sizeof(header));
    constexpr uint32_t kRoom = kMaxTransfer + 65536;
    const memory::GuestAddr in(0x1000);
    const memory::GuestAddr out(0x200000);
    // SAFETY: bytes as bytes.
    EXPECT_TRUE(
        memory_.WriteBytes(in, {reinterpret_cast<const uint8_t*>(request.data()), request.size()}));
    const memory::GuestSlice readable[] = {*memory_.Slice(in, request.size())};
    const memory::GuestSlice writable[] = {*memory_.Slice(out, kRoom)};
    std::vector<char> answer(server_->Handle(readable, writable, worker_, recovered));
    // SAFETY: as above.
    EXPECT_TRUE(memory_.ReadBytes(out, {reinterpret_cast<uint8_t*>(answer.data()), answer.size()}));
    if (!answer.empty()) {
      memcpy(answer.data() + offsetof(fuse_out_header, unique), &unique, sizeof(unique));
    }
    return answer;
  }

  // As if the process had come so far with the last request.
  void SetNote(SessionState::Stage stage, int64_t value) {
    worker_.intent->stage = stage;
    worker_.intent->value = value;
  }
  // The kernel has the answer to what was passed last.
  void Answered() { Server::Answered(worker_); }

  void BeUser(uint32_t user, uint32_t group) {
    user_ = user;
    group_ = group;
  }

  // --- what most tests need

  uint64_t Lookup(uint64_t parent, std::string_view name) {
    const Answer answer = Send(FUSE_LOOKUP, parent, Text(name));
    EXPECT_EQ(answer.error, 0) << name;
    return answer.error == 0 ? answer.As<fuse_entry_out>().nodeid : 0;
  }
  int LookupError(uint64_t parent, std::string_view name) {
    return Send(FUSE_LOOKUP, parent, Text(name)).error;
  }
  struct Opened {
    uint64_t node = 0;
    uint64_t handle = 0;
    int error = 0;
  };
  Opened Create(uint64_t parent, std::string_view name, uint32_t flags = O_RDWR,
                uint32_t mode = 0644) {
    const Answer answer =
        Send(FUSE_CREATE, parent,
             Struct(fuse_create_in{
                        .flags = flags | O_CREAT, .mode = mode, .umask = 022, .open_flags = 0})
                 .Text(name));
    if (answer.error != 0) return {.node = 0, .handle = 0, .error = answer.error};
    return {.node = answer.As<fuse_entry_out>().nodeid,
            .handle = answer.As<fuse_open_out>(sizeof(fuse_entry_out)).fh,
            .error = 0};
  }
  Opened Open(uint64_t node, uint32_t flags = O_RDONLY, uint32_t opcode = FUSE_OPEN) {
    const Answer answer = Send(opcode, node, Struct(fuse_open_in{.flags = flags, .open_flags = 0}));
    if (answer.error != 0) return {.node = node, .handle = 0, .error = answer.error};
    return {.node = node, .handle = answer.As<fuse_open_out>().fh, .error = 0};
  }
  Answer Write(uint64_t node, uint64_t handle, uint64_t offset, std::string_view data,
               uint32_t flags = 0, bool recovered = false) {
    fuse_write_in in{};
    in.fh = handle;
    in.offset = offset;
    in.size = static_cast<uint32_t>(data.size());
    in.write_flags = flags;
    return Send(FUSE_WRITE, node, Struct(in).Raw(data), 65536, recovered);
  }
  Answer Read(uint64_t node, uint64_t handle, uint64_t offset, uint32_t size,
              uint32_t opcode = FUSE_READ) {
    fuse_read_in in{};
    in.fh = handle;
    in.offset = offset;
    in.size = size;
    return Send(opcode, node, Struct(in), size + static_cast<uint32_t>(sizeof(fuse_out_header)));
  }
  Answer GetAttr(uint64_t node) { return Send(FUSE_GETATTR, node, Struct(fuse_getattr_in{})); }
  void Release(uint64_t node, uint64_t handle) {
    fuse_release_in in{};
    in.fh = handle;
    EXPECT_EQ(Send(FUSE_RELEASE, node, Struct(in)).error, 0);
  }
  void Forget(uint64_t node, uint64_t count) {
    EXPECT_EQ(Send(FUSE_FORGET, node, Struct(fuse_forget_in{.nlookup = count})).written, 0u);
  }

  Server& server() { return *server_; }
  shared_dir::Share& share() { return server_->share(); }
  uint64_t last_unique() const { return unique_; }

 private:
  void Start() {
    Result<sys::UniqueFd> root = sys::Open(directory_, O_PATH | O_DIRECTORY);
    ASSERT_TRUE(root.has_value());
    Result<sys::UniqueFd> self = jail::OpenSelfFds();
    ASSERT_TRUE(self.has_value());
    const Status entered = shared_dir::EnterWorkerThread(*self);
    ASSERT_TRUE(entered.has_value()) << entered.error().ToString();
    auto share =
        shared_dir::Share::Create(std::move(*root), std::move(*self), nodes_, options_.share);
    ASSERT_TRUE(share.has_value()) << share.error().ToString();
    auto server =
        Server::Create(std::move(*share), session_, sys::UnixSocket(*unnamed_in_.fd().Dup()),
                       sys::UnixSocket(*unnamed_out_.fd().Dup()), options_.server);
    ASSERT_TRUE(server.has_value()) << server.error().ToString();
    server_ = std::move(*server);
    worker_.intent = nullptr;
  }

  const std::string directory_;
  const FuseDriverOptions options_;
  sys::UniqueFd nodes_;
  sys::UniqueFd session_;
  sys::UnixSocket unnamed_in_;
  sys::UnixSocket unnamed_out_;
  memory::GuestMemory memory_;
  std::unique_ptr<Server> server_;
  Server::Worker worker_;
  uint64_t unique_ = 0;
  uint32_t user_ = 0;
  uint32_t group_ = 0;
};

// A directory of the host, removed with all that is in it.
class TestDirectory {
 public:
  TestDirectory() {
    umask(S_IWGRP | S_IWOTH);
    // Not /tmp, where a tmpfs of older kernels has no extended attributes of users.
    char path[] = "/var/tmp/crosvm-fs-XXXXXX";
    path_ = mkdtemp(path);
  }
  ~TestDirectory() {
    EXPECT_EQ(chdir("/"), 0);
    const std::string command = "rm -rf " + path_;
    EXPECT_EQ(system(command.c_str()), 0);
  }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }
  const std::string& path() const { return path_; }

  void Write(std::string_view name, std::string_view text) const {
    const Result<sys::UniqueFd> file = sys::Open(*this / name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ASSERT_TRUE(file.has_value());
    ASSERT_TRUE(sys::WriteAll(*file, text).has_value());
  }
  std::string Read(std::string_view name) const {
    const Result<std::string> text = sys::ReadFileToString(*this / name);
    return text.has_value() ? *text : "(no such file)";
  }

 private:
  std::string path_;
};

}  // namespace crosvm::devices::fs

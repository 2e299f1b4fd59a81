// A share by 9p in its jail: as root and as an ordinary user, every kind of request under its
// policy, raw 9P through a vhost-user front-end, and a successor after a kill.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "device_host/device_host.h"
#include "device_host/launch.h"
#include "devices/p9/p9_wire.h"
#include "event/test_loop.h"
#include "testing/child_main.h"
#include "vhost_user/frontend.h"
#include "virtio/testing/driver.h"

namespace crosvm::device_host {
namespace {

using devices::p9::MessageReader;
using devices::p9::MessageWriter;
using devices::p9::Type;
using virtio::testing::Driver;
using virtio::testing::Used;

CROSVM_CHILD_MAIN(P9Device) {
  return ChildMain(devices::AllModules());
}

constexpr uid_t kSomebody = 12345;

class P9InJail {
 public:
  Status Start(const std::string& option) {
    prepared_ = TRY(module_->prepare(option));
    hosted_ = TRY(Launch(*module_, prepared_, options_));
    frontend_ = TRY(vhost_user::Frontend::Connect(loop_, std::move(hosted_.vhost_user),
                                                  {.name = "9p[0]", .info = hosted_.info}));
    const virtio::QueueActivation queue = {.index = 0,
                                           .size = driver_.options().size,
                                           .addresses = driver_.addresses(),
                                           .kick = &driver_.kick(),
                                           .call = &driver_.call()};
    TRY(frontend_->Activate(memory_, driver_.features(), {&queue, 1}));
    MessageWriter version;
    version.U32(65536).String(devices::p9::kVersionText);
    MessageWriter attach;
    attach.U32(0).U32(devices::p9::kNoFid).String("").String("").U32(1000);
    if (Send(Type::kVersion, std::move(version)) != 0 ||
        Send(Type::kAttach, std::move(attach)) != 0) {
      return Fail(ErrorKind::kProtocol, "no session");
    }
    return {};
  }

  // Kills the process and goes on with another.
  Status Restart() {
    TRY(hosted_.process.Signal(SIGKILL));
    hosted_ = HostedDevice();
    hosted_ = TRY(Launch(*module_, prepared_, options_));
    return frontend_->Reattach(std::move(hosted_.vhost_user));
  }

  // The errno of the answer, -1 for none.
  int Send(Type type, MessageWriter body, std::string_view data = {}) {
    const std::vector<uint8_t> message =
        std::move(body).Finish(static_cast<uint8_t>(type), 1, static_cast<uint32_t>(data.size()));
    auto chain = driver_.Chain();
    chain.Readable(message);
    if (!data.empty()) chain.Readable(data);
    chain.Writable(8192).Submit();
    driver_.Kick();
    const std::optional<Used> used = driver_.AwaitUsed();
    if (!used) {
      ADD_FAILURE() << "no answer; " << hosted_.last_words.Read();
      return -1;
    }
    if (used->written < devices::p9::kHeaderBytes) return -1;
    answer_.assign(used->data.begin() + devices::p9::kHeaderBytes,
                   used->data.begin() + used->written);
    const bool failed = used->data[4] == devices::p9::AnswerTo(Type::kLerror);
    return failed ? static_cast<int>(MessageReader(answer_).U32()) : 0;
  }
  int Walk(uint32_t fid, uint32_t new_fid, const std::vector<std::string>& names) {
    MessageWriter walk;
    walk.U32(fid).U32(new_fid).U16(static_cast<uint16_t>(names.size()));
    for (const std::string& name : names) walk.String(name);
    return Send(Type::kWalk, std::move(walk));
  }
  int WithFid(Type type, uint32_t fid, uint64_t more = 0) {
    MessageWriter out;
    out.U32(fid).U64(more).U64(0);
    return Send(type, std::move(out));
  }
  MessageReader answer() const { return MessageReader(answer_); }
  const HostedDevice& hosted() const { return hosted_; }

 private:
  const devices::DeviceModule* const module_ = devices::FindModule("9p");
  const LaunchOptions options_ = {.label = "9p[0]", .entry = "--child-main=P9Device"};
  event::TestLoop loop_;
  memory::GuestMemory memory_ = Driver::MakeMemory();
  Driver driver_{memory_, {.size = 64}};
  devices::PreparedDevice prepared_;
  HostedDevice hosted_;
  std::unique_ptr<vhost_user::Frontend> frontend_;
  std::vector<uint8_t> answer_;
};

uint32_t Setattr(P9InJail& share, uint32_t fid, uint32_t valid, uint32_t id) {
  MessageWriter setattr;
  setattr.U32(fid).U32(valid).U32(0600).U32(id).U32(id).U64(2).U64(5).U64(0).U64(5).U64(0);
  return static_cast<uint32_t>(share.Send(Type::kSetattr, std::move(setattr)));
}

// Everything about one open file, fid 1.
void UseFile(P9InJail& share, bool as_root) {
  MessageWriter write;
  write.U32(1).U64(0).U32(4);
  EXPECT_EQ(share.Send(Type::kWrite, std::move(write), "data"), 0);
  MessageWriter read;
  read.U32(1).U64(0).U32(100);
  EXPECT_EQ(share.Send(Type::kRead, std::move(read)), 0);
  EXPECT_EQ(share.answer().U32(), 4u);
  EXPECT_EQ(share.WithFid(Type::kGetattr, 1, UINT64_MAX), 0);
  EXPECT_EQ(share.WithFid(Type::kFsync, 1), 0);
  EXPECT_EQ(share.WithFid(Type::kFsync, 1, 1), 0);
  EXPECT_EQ(share.WithFid(Type::kStatfs, 1), 0);
  using namespace devices::p9;
  EXPECT_EQ(Setattr(share, 1, kSetMode | kSetSize | kSetModification | kSetAccess, 0), 0u);
  EXPECT_EQ(Setattr(share, 1, kSetUser | kSetGroup, 77), as_root ? 0u : EPERM);
  for (const uint8_t type : {kLockWrite, kLockRead, kLockNone}) {
    MessageWriter lock;
    lock.U32(1).U8(type).U32(0).U64(0).U64(0).U32(7).String("guest");
    EXPECT_EQ(share.Send(Type::kLock, std::move(lock)), 0);
    EXPECT_EQ(share.answer().U8(), kLockSuccess);
    MessageWriter getlock;
    getlock.U32(1).U8(kLockWrite).U64(0).U64(0).U32(7).String("other");
    EXPECT_EQ(share.Send(Type::kGetlock, std::move(getlock)), 0);
  }
  // An attribute: written, read, listed, taken away.
  for (const std::string& value : {std::string("v"), std::string()}) {
    EXPECT_EQ(share.Walk(1, 9, {}), 0);
    MessageWriter create;
    create.U32(9).String("user.a").U64(value.size()).U32(0);
    EXPECT_EQ(share.Send(Type::kXattrcreate, std::move(create)), 0);
    MessageWriter bytes;
    bytes.U32(9).U64(0).U32(static_cast<uint32_t>(value.size()));
    EXPECT_EQ(share.Send(Type::kWrite, std::move(bytes), value), 0);
    EXPECT_EQ(share.WithFid(Type::kClunk, 9), 0);
    for (const char* name : {"user.a", ""}) {
      MessageWriter walk;
      walk.U32(1).U32(9).String(name);
      const int found = share.Send(Type::kXattrwalk, std::move(walk));
      EXPECT_EQ(found, value.empty() && *name != '\0' ? ENODATA : 0);
      if (found != 0) continue;
      EXPECT_EQ(share.WithFid(Type::kClunk, 9), 0);
    }
  }
}

// Everything about names, in the directory "sub", fid 2.
void UseNames(P9InJail& share) {
  MessageWriter mkdir;
  mkdir.U32(0).String("sub").U32(0755).U32(1000);
  EXPECT_EQ(share.Send(Type::kMkdir, std::move(mkdir)), 0);
  ASSERT_EQ(share.Walk(0, 2, {"sub"}), 0);
  MessageWriter symlink;
  symlink.U32(2).String("link").String("target").U32(1000);
  EXPECT_EQ(share.Send(Type::kSymlink, std::move(symlink)), 0);
  ASSERT_EQ(share.Walk(2, 3, {"link"}), 0);
  EXPECT_EQ(share.WithFid(Type::kReadlink, 3), 0);
  EXPECT_EQ(share.answer().String(), "target");
  EXPECT_EQ(share.WithFid(Type::kRemove, 3), 0);
  MessageWriter link;
  link.U32(2).U32(1).String("hard");
  EXPECT_EQ(share.Send(Type::kLink, std::move(link)), 0);
  MessageWriter rename;
  rename.U32(2).String("hard").U32(0).String("x");
  EXPECT_EQ(share.Send(Type::kRenameat, std::move(rename)), 0);
  MessageWriter unlink;
  unlink.U32(0).String("x").U32(0);
  EXPECT_EQ(share.Send(Type::kUnlinkat, std::move(unlink)), 0);
  MessageWriter fifo;
  fifo.U32(2).String("fifo").U32(S_IFIFO | 0600).U32(0).U32(0).U32(1000);
  EXPECT_EQ(share.Send(Type::kMknod, std::move(fifo)), 0);
  MessageWriter device;
  device.U32(2).String("null").U32(S_IFCHR | 0600).U32(1).U32(3).U32(1000);
  EXPECT_EQ(share.Send(Type::kMknod, std::move(device)), EPERM);
  ASSERT_EQ(share.Walk(2, 4, {}), 0);
  MessageWriter open;
  open.U32(4).U32(O_RDONLY | O_DIRECTORY);
  EXPECT_EQ(share.Send(Type::kLopen, std::move(open)), 0);
  MessageWriter readdir;
  readdir.U32(4).U64(0).U32(4096);
  EXPECT_EQ(share.Send(Type::kReaddir, std::move(readdir)), 0);
  EXPECT_GT(share.answer().U32(), 0u);
}

void UseEverything(bool as_root) {
  char path[] = "/tmp/crosvm-9p-XXXXXX";
  ASSERT_NE(mkdtemp(path), nullptr);
  const std::string directory = path;
  ASSERT_EQ(chmod(path, 0777), 0);
  P9InJail share;
  const Status started = share.Start(directory + ":tag");
  ASSERT_TRUE(started.has_value()) << started.error().ToString();
  EXPECT_TRUE(share.hosted().layers.Has(jail::Layer::kSeccomp));
  EXPECT_TRUE(share.hosted().layers.Has(jail::Layer::kPivotRoot));

  ASSERT_EQ(share.Walk(0, 1, {}), 0);
  MessageWriter create;
  create.U32(1).String("file").U32(O_RDWR | O_EXCL).U32(0640).U32(1000);
  ASSERT_EQ(share.Send(Type::kLcreate, std::move(create)), 0);
  struct stat status{};
  ASSERT_EQ(stat((directory + "/file").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, as_root ? 1000 : geteuid());
  EXPECT_EQ(status.st_mode & 07777, 0640u);
  UseFile(share, as_root);
  UseNames(share);
  // Out of the share, from inside the jail.
  EXPECT_EQ(share.Walk(0, 8, {"..", "..", "etc"}), 0);
  EXPECT_EQ(share.answer().U16(), 2u) << "as far as the root";

  // The file loses its name while it is open; a successor still has it.
  MessageWriter unlink;
  unlink.U32(0).String("file").U32(0);
  EXPECT_EQ(share.Send(Type::kUnlinkat, std::move(unlink)), 0);
  const Status restarted = share.Restart();
  ASSERT_TRUE(restarted.has_value()) << restarted.error().ToString();
  MessageWriter write;
  write.U32(1).U64(0).U32(4);
  EXPECT_EQ(share.Send(Type::kWrite, std::move(write), "more"), 0);
  EXPECT_EQ(share.WithFid(Type::kGetattr, 2, UINT64_MAX), 0);
  EXPECT_EQ(system(("rm -rf " + directory).c_str()), 0);
}

TEST(P9JailTest, EverythingAsRoot) {
  CROSVM_REQUIRE_USER_NAMESPACES();
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  UseEverything(true);
}

TEST(P9JailTest, EverythingAsAnOrdinaryUser) {
  CROSVM_REQUIRE_USER_NAMESPACES();
  if (geteuid() != 0) return UseEverything(false);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (setresgid(kSomebody, kSomebody, kSomebody) != 0 ||
        setresuid(kSomebody, kSomebody, kSomebody) != 0 ||
        prctl(PR_SET_DUMPABLE, 1) != 0) {  // as after an exec: its /proc is its own
      _exit(99);
    }
    UseEverything(false);
    _exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace crosvm::device_host

// A shared directory in its jail: as root and as an ordinary user, under its policy, with the
// directory as its root; raw FUSE through a vhost-user front-end.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "device_host/device_host.h"
#include "device_host/launch.h"
#include "event/test_loop.h"
#include "sys/file.h"
#include "testing/child_main.h"
#include "vhost_user/frontend.h"
#include "virtio/testing/driver.h"
#include "virtio/types.h"

namespace crosvm::device_host {
namespace {

using virtio::testing::Driver;
using virtio::testing::Used;

CROSVM_CHILD_MAIN(ShareDevice) {
  return ChildMain(devices::AllModules());
}

constexpr uid_t kSomebody = 12345;

// One jailed share and a driver of its request queue.
class ShareInJail {
 public:
  Status Start(const std::string& option) {
    const devices::DeviceModule* const module = devices::FindModule("fs");
    prepared_ = TRY(module->prepare(option));
    hosted_ =
        TRY(Launch(*module, prepared_, {.label = "fs[0]", .entry = "--child-main=ShareDevice"}));
    frontend_ = TRY(vhost_user::Frontend::Connect(loop_, std::move(hosted_.vhost_user),
                                                  {.name = "fs[0]", .info = hosted_.info}));
    const virtio::QueueActivation queue = {.index = 1,
                                           .size = driver_.options().size,
                                           .addresses = driver_.addresses(),
                                           .kick = &driver_.kick(),
                                           .call = &driver_.call()};
    TRY(frontend_->Activate(memory_, driver_.features(), {&queue, 1}));
    fuse_init_in in{};
    in.major = 7;
    in.minor = 38;
    if (Send(FUSE_INIT, 0, Text(in)) != 0) return Fail(ErrorKind::kProtocol, "INIT");
    return {};
  }

  // Kills the process and goes on with another.
  Status Restart() {
    TRY(hosted_.process.Signal(SIGKILL));
    hosted_ = HostedDevice();
    hosted_ = TRY(Launch(*devices::FindModule("fs"), prepared_,
                         {.label = "fs[0]", .entry = "--child-main=ShareDevice"}));
    return frontend_->Reattach(std::move(hosted_.vhost_user));
  }

  template <typename T>
  static std::string Text(const T& value) {
    // SAFETY: a wire struct as bytes.
    return {reinterpret_cast<const char*>(&value), sizeof(value)};
  }

  // The errno of the answer, -1 for none. `answer_` has what came behind the header.
  int Send(uint32_t opcode, uint64_t node, const std::string& arguments, uint32_t user = 0) {
    fuse_in_header header{};
    header.len = static_cast<uint32_t>(sizeof(header) + arguments.size());
    header.opcode = opcode;
    header.unique = ++unique_;
    header.nodeid = node;
    header.uid = user;
    header.gid = user;
    auto chain = driver_.Chain();
    chain.ReadableStruct(header);
    if (!arguments.empty()) chain.Readable(arguments);
    chain.Writable(8192).Submit();
    driver_.Kick();
    const std::optional<Used> used = driver_.AwaitUsed();
    if (!used) {
      ADD_FAILURE() << "no answer; " << hosted_.last_words.Read();
      return -1;
    }
    if (used->written < sizeof(fuse_out_header)) return -1;
    fuse_out_header out{};
    memcpy(&out, used->data.data(), sizeof(out));
    answer_.assign(used->data.begin() + sizeof(out), used->data.begin() + used->written);
    return -out.error;
  }
  template <typename T>
  T Answer(size_t offset = 0) const {
    T value{};
    EXPECT_LE(offset + sizeof(T), answer_.size());
    if (offset + sizeof(T) <= answer_.size()) memcpy(&value, answer_.data() + offset, sizeof(T));
    return value;
  }

  const HostedDevice& hosted() const { return hosted_; }

 private:
  event::TestLoop loop_;
  memory::GuestMemory memory_ = Driver::MakeMemory();
  Driver driver_{memory_, {.size = 64}};
  devices::PreparedDevice prepared_;
  HostedDevice hosted_;
  std::unique_ptr<vhost_user::Frontend> frontend_;
  std::vector<uint8_t> answer_;
  uint64_t unique_ = 0;
};

std::string MakeDirectory() {
  char path[] = "/tmp/crosvm-share-XXXXXX";
  EXPECT_NE(mkdtemp(path), nullptr);
  return path;
}

void RemoveDirectory(const std::string& path) {
  const std::string command = "rm -rf " + path;
  EXPECT_EQ(system(command.c_str()), 0);
}

// Every kind of request once, so that the policy is known to let it through; whose files they are.
void UseEverything(bool as_root) {
  const std::string directory = MakeDirectory();
  ASSERT_EQ(chmod(directory.c_str(), 0777), 0);
  ShareInJail share;
  const Status started = share.Start(directory + ":tag:type=fs");
  ASSERT_TRUE(started.has_value()) << started.error().ToString();
  EXPECT_TRUE(share.hosted().layers.Has(jail::Layer::kSeccomp));
  EXPECT_TRUE(share.hosted().layers.Has(jail::Layer::kPivotRoot));
  const auto text = [](const auto& value) { return ShareInJail::Text(value); };
  const std::string nul(1, '\0');

  const fuse_create_in create{
      .flags = O_RDWR | O_CREAT | O_EXCL, .mode = 0640, .umask = 022, .open_flags = 0};
  ASSERT_EQ(share.Send(FUSE_CREATE, 1, text(create) + "file" + nul, 1000), 0);
  const uint64_t node = share.Answer<fuse_entry_out>().nodeid;
  const uint64_t handle = share.Answer<fuse_open_out>(sizeof(fuse_entry_out)).fh;
  struct stat status{};
  ASSERT_EQ(stat((directory + "/file").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, as_root ? 1000 : geteuid());
  EXPECT_EQ(status.st_mode & 07777, 0640u);
  EXPECT_EQ(share.Answer<fuse_entry_out>().attr.uid, as_root ? 1000u : 0u);

  fuse_write_in write{};
  write.fh = handle;
  write.size = 4;
  EXPECT_EQ(share.Send(FUSE_WRITE, node, text(write) + "data"), 0);
  fuse_read_in read{};
  read.fh = handle;
  read.size = 100;
  EXPECT_EQ(share.Send(FUSE_READ, node, text(read)), 0);
  EXPECT_EQ(share.Answer<uint32_t>(), 0x61746164u);  // "data"
  fuse_setattr_in change{};
  change.valid = FATTR_MODE | FATTR_SIZE | FATTR_MTIME_NOW;
  change.mode = 0600;
  EXPECT_EQ(share.Send(FUSE_SETATTR, node, text(change)), 0);
  change.valid = FATTR_UID | FATTR_GID;
  change.uid = change.gid = 77;
  EXPECT_EQ(share.Send(FUSE_SETATTR, node, text(change)), as_root ? 0 : EPERM);
  EXPECT_EQ(share.Send(FUSE_MKDIR, 1, text(fuse_mkdir_in{.mode = 0755, .umask = 0}) + "sub" + nul),
            0);
  const uint64_t sub = share.Answer<fuse_entry_out>().nodeid;
  EXPECT_EQ(share.Send(FUSE_SYMLINK, sub, "link" + nul + "target" + nul), 0);
  EXPECT_EQ(share.Send(FUSE_READLINK, share.Answer<fuse_entry_out>().nodeid, ""), 0);
  EXPECT_EQ(share.Send(FUSE_LINK, sub, text(fuse_link_in{.oldnodeid = node}) + "hard" + nul), 0);
  EXPECT_EQ(
      share.Send(FUSE_RENAME, sub, text(fuse_rename_in{.newdir = 1}) + "hard" + nul + "x" + nul),
      0);
  fuse_mknod_in special{};
  special.mode = S_IFIFO | 0600;
  EXPECT_EQ(share.Send(FUSE_MKNOD, sub, text(special) + "fifo" + nul), 0);
  EXPECT_EQ(share.Send(FUSE_UNLINK, 1, "x" + nul), 0);
  EXPECT_EQ(share.Send(FUSE_GETXATTR, node,
                       text(fuse_getxattr_in{.size = 10, .padding = 0}) + "user.none" + nul),
            ENODATA);
  EXPECT_EQ(
      share.Send(FUSE_SETXATTR, node,
                 text(fuse_setxattr_in{.size = 1, .flags = 0, .setxattr_flags = 0, .padding = 0})
                         .substr(0, 8) +
                     "user.a" + nul + "v"),
      0);
  EXPECT_EQ(share.Send(FUSE_LISTXATTR, node, text(fuse_getxattr_in{.size = 100, .padding = 0})), 0);
  EXPECT_EQ(share.Send(FUSE_REMOVEXATTR, node, "user.a" + nul), 0);
  EXPECT_EQ(share.Send(FUSE_STATFS, 1, ""), 0);
  fuse_fsync_in sync{};
  sync.fh = handle;
  EXPECT_EQ(share.Send(FUSE_FSYNC, node, text(sync)), 0);
  EXPECT_EQ(share.Send(FUSE_SYNCFS, 1, text(uint64_t{0})), 0);
  fuse_fallocate_in allocate{};
  allocate.fh = handle;
  allocate.length = 4096;
  EXPECT_EQ(share.Send(FUSE_FALLOCATE, node, text(allocate)), 0);
  fuse_lseek_in seek{};
  seek.fh = handle;
  seek.whence = SEEK_HOLE;
  EXPECT_EQ(share.Send(FUSE_LSEEK, node, text(seek)), 0);
  fuse_copy_file_range_in copy{};
  copy.fh_in = copy.fh_out = handle;
  copy.off_out = 8192;
  copy.len = 10;
  EXPECT_EQ(share.Send(FUSE_COPY_FILE_RANGE, node, text(copy)), 0);
  fuse_ioctl_in control{};
  control.fh = handle;
  control.cmd = 0x80086601;  // FS_IOC_GETFLAGS
  const int flags = share.Send(FUSE_IOCTL, node, text(control));
  EXPECT_TRUE(flags == 0 || flags == ENOTTY) << flags;
  EXPECT_EQ(share.Send(FUSE_OPENDIR, 1, text(fuse_open_in{})), 0);
  read.fh = share.Answer<fuse_open_out>().fh;
  read.size = 4096;
  EXPECT_EQ(share.Send(FUSE_READDIRPLUS, 1, text(read)), 0);
  EXPECT_EQ(share.Send(FUSE_LOOKUP, 1, "file" + nul), 0);
  EXPECT_EQ(
      share.Send(FUSE_OPEN, node, text(fuse_open_in{.flags = O_RDWR | O_TRUNC, .open_flags = 0})),
      0);

  // The file loses its name while it is open; a successor still has it.
  EXPECT_EQ(share.Send(FUSE_UNLINK, 1, "file" + nul), 0);
  const Status restarted = share.Restart();
  ASSERT_TRUE(restarted.has_value()) << restarted.error().ToString();
  EXPECT_EQ(share.Send(FUSE_WRITE, node, text(write) + "more"), 0);
  EXPECT_EQ(share.Send(FUSE_GETATTR, sub, text(fuse_getattr_in{})), 0);
  RemoveDirectory(directory);
}

TEST(ShareJailTest, EverythingAsRoot) {
  CROSVM_REQUIRE_USER_NAMESPACES();
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  UseEverything(true);
}

TEST(ShareJailTest, EverythingAsAnOrdinaryUser) {
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

TEST(ShareJailTest, ReadOnlyIsAlsoTheMounts) {
  CROSVM_REQUIRE_USER_NAMESPACES();
  const std::string directory = MakeDirectory();
  ShareInJail share;
  const Status started = share.Start(directory + ":tag:type=fs:ro");
  ASSERT_TRUE(started.has_value()) << started.error().ToString();
  EXPECT_EQ(share.Send(FUSE_MKDIR, 1,
                       ShareInJail::Text(fuse_mkdir_in{.mode = 0755, .umask = 0}) + "sub" +
                           std::string(1, '\0')),
            EROFS);
  const int root = open(fmt::format("/proc/{}/root", share.hosted().process.pid()).c_str(),
                        O_PATH | O_DIRECTORY);
  if (root >= 0) {
    EXPECT_NE(mkdirat(root, "sub", 0755), 0);
  }
  close(root);
  RemoveDirectory(directory);
}

}  // namespace
}  // namespace crosvm::device_host

// Writes, and what a guest with a cache of its own for them expects.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/fs/fuse_driver.h"

namespace crosvm::devices::fs {
namespace {

constexpr uint64_t kRoot = FUSE_ROOT_ID;

// Whether a write appends is said by the write: fcntl(2) changes it, and mapped pages come by any
// handle.
TEST(WriteTest, OnlyAppendingWritesAppend) {
  const TestDirectory dir;
  FuseDriver fuse(dir.path());
  dir.Write("file", "0123");
  const uint64_t node = fuse.Lookup(kRoot, "file");
  const auto file = fuse.Open(node, O_RDWR | O_APPEND);
  const auto write = [&](std::string_view text, uint32_t flags, uint32_t write_flags) {
    fuse_write_in in{};
    in.fh = file.handle;
    in.size = static_cast<uint32_t>(text.size());
    in.flags = flags;
    in.write_flags = write_flags;
    EXPECT_EQ(fuse.Send(FUSE_WRITE, node, Struct(in).Raw(text)).error, 0);
  };
  write("a", O_RDWR | O_APPEND, 0);
  EXPECT_EQ(dir.Read("file"), "0123a");
  write("b", O_RDWR, 0);
  EXPECT_EQ(dir.Read("file"), "b123a");
  write("cc", O_RDWR | O_APPEND, FUSE_WRITE_CACHE);
  EXPECT_EQ(dir.Read("file"), "cc23a");
}

// What Linux does before Lseek would be right: it does not write its cache back.
TEST(WriteTest, HolesAreNotTold) {
  const TestDirectory dir;
  dir.Write("file", "text");
  FuseDriver fuse(dir.path(), {.server = {.cache = Cache::kAlways, .writeback = true}});
  const uint64_t node = fuse.Lookup(kRoot, "file");
  fuse_lseek_in in{};
  in.fh = fuse.Open(node).handle;
  in.whence = SEEK_DATA;
  EXPECT_EQ(fuse.Send(FUSE_LSEEK, node, Struct(in)).error, ENOSYS);
}

TEST(WriteTest, TimesOfADeletedFileAreNobodysError) {
  const TestDirectory dir;
  FuseDriver fuse(dir.path(), {.server = {.cache = Cache::kAlways, .writeback = true}});
  for (const std::string& name : {std::string("file"), std::string(200, 'l')}) {
    dir.Write(name, "text");
    const uint64_t node = fuse.Lookup(kRoot, name);
    ASSERT_EQ(fuse.Send(FUSE_UNLINK, kRoot, Text(name)).error, 0);
    fuse_setattr_in times{};
    times.valid = FATTR_MTIME | FATTR_CTIME;
    const auto answer = fuse.Send(FUSE_SETATTR, node, Struct(times));
    EXPECT_EQ(answer.error, 0) << name;
    EXPECT_TRUE(S_ISREG(answer.As<fuse_attr_out>().attr.mode));
    times.valid |= FATTR_SIZE;
    EXPECT_EQ(fuse.Send(FUSE_SETATTR, node, Struct(times)).error, ENOENT);
  }
}

// Upon which the guest's kernel finds it again.
TEST(WriteTest, TimesOfAFileThatTheHostRenamedAreAnError) {
  const TestDirectory dir;
  FuseDriver fuse(dir.path(), {.server = {.cache = Cache::kAlways, .writeback = true}});
  dir.Write("file", "text");
  const uint64_t node = fuse.Lookup(kRoot, "file");
  ASSERT_EQ(rename((dir / "file").c_str(), (dir / "renamed").c_str()), 0);
  fuse_setattr_in times{};
  times.valid = FATTR_MTIME;
  times.mtime = 1000;
  EXPECT_EQ(fuse.Send(FUSE_SETATTR, node, Struct(times)).error, ESTALE);
  EXPECT_EQ(fuse.Lookup(kRoot, "renamed"), node);
  const auto set = fuse.Send(FUSE_SETATTR, node, Struct(times));
  EXPECT_EQ(set.As<fuse_attr_out>().attr.mtime, 1000u);
}

// Whether set-id bits stay is each request's own: what one without the right did before it on the
// same thread does not count, and neither does what one with it did.
class SetIdBitsTest : public ::testing::Test {
 protected:
  // The group of the directory, which files in it get, is none of this process'.
  static constexpr gid_t kGroup = 3000;

  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    EXPECT_EQ(chown(dir_.path().c_str(), 0, kGroup), 0);
    SetMode(".", 02777);
    other_ = fuse_.Create(kRoot, "other");
  }
  void WithoutTheRight() {
    fuse_.Write(other_.node, other_.handle, 0, "x", FUSE_WRITE_KILL_SUIDGID);
  }
  void WithTheRight() { fuse_.Write(other_.node, other_.handle, 0, "x"); }
  // As somebody on the host; this thread may lack the right by what it did before.
  void SetMode(std::string_view name, mode_t mode) const {
    shared_dir::KeepSetIdBits(true);
    EXPECT_EQ(chmod((dir_ / name).c_str(), mode), 0) << name;
  }
  mode_t ModeOf(std::string_view name) const {
    struct stat status{};
    EXPECT_EQ(stat((dir_ / name).c_str(), &status), 0) << name;
    return status.st_mode & 07777;
  }

  TestDirectory dir_;
  FuseDriver fuse_{dir_.path()};
  FuseDriver::Opened other_;
};

TEST_F(SetIdBitsTest, OfNewFilesAreTheCallers) {
  fuse_.BeUser(1000, 2000);
  WithoutTheRight();
  EXPECT_EQ(fuse_.Create(kRoot, "created", O_RDWR, 02755).error, 0);
  EXPECT_EQ(ModeOf("created"), 02755u);
  WithoutTheRight();
  fuse_mknod_in make{};
  make.mode = S_IFREG | 02755;
  EXPECT_EQ(fuse_.Send(FUSE_MKNOD, kRoot, Struct(make).Text("node")).error, 0);
  EXPECT_EQ(ModeOf("node"), 02755u);
  WithoutTheRight();
  const auto unnamed = fuse_.Send(
      FUSE_TMPFILE, kRoot,
      Struct(fuse_create_in{.flags = O_RDWR, .mode = 02755, .umask = 0, .open_flags = 0}).Text(""));
  if (unnamed.error != EOPNOTSUPP) {
    EXPECT_EQ(unnamed.As<fuse_entry_out>().attr.mode & 07777, 02755u);
  }
}

TEST_F(SetIdBitsTest, OfACopiedOverFileAreRootsToKeep) {
  const auto copy_over = [&](std::string_view name) {
    fuse_.BeUser(0, 0);
    const auto file = fuse_.Create(kRoot, name);
    SetMode(name, 06755);
    fuse_copy_file_range_in in{};
    in.fh_in = other_.handle;
    in.fh_out = file.handle;
    in.nodeid_out = file.node;
    in.len = 1;
    return in;
  };
  fuse_copy_file_range_in in = copy_over("roots");
  WithoutTheRight();
  EXPECT_EQ(fuse_.Send(FUSE_COPY_FILE_RANGE, other_.node, Struct(in)).error, 0);
  EXPECT_EQ(ModeOf("roots"), 06755u);
  in = copy_over("users");
  WithTheRight();
  fuse_.BeUser(1000, 2000);
  EXPECT_EQ(fuse_.Send(FUSE_COPY_FILE_RANGE, other_.node, Struct(in)).error, 0);
  EXPECT_EQ(ModeOf("users"), 0755u);
}

TEST_F(SetIdBitsTest, OfAFileThatGetsAnAccessList) {
  // A list of the three usual entries, as `setfacl` writes it (linux/posix_acl_xattr.h).
  struct Entry {
    uint16_t tag;
    uint16_t rights;
    uint32_t id;
  };
  Bytes list = Struct(uint32_t{2});
  for (const uint16_t tag : {0x01, 0x04, 0x20}) {
    list.Struct(Entry{.tag = tag, .rights = static_cast<uint16_t>(tag == 1 ? 7 : 5), .id = ~0U});
  }
  const auto set = [&](std::string_view name, uint32_t flags) {
    const auto file = fuse_.Create(kRoot, name);
    SetMode(name, 02755);
    flags == 0 ? WithoutTheRight() : WithTheRight();
    const fuse_setxattr_in in{.size = static_cast<uint32_t>(list.data().size()),
                              .flags = 0,
                              .setxattr_flags = flags,
                              .padding = 0};
    return fuse_
        .Send(FUSE_SETXATTR, file.node, Struct(in).Text("system.posix_acl_access").Raw(list.view()))
        .error;
  };
  const int error = set("keeps", 0);
  if (error == EOPNOTSUPP) GTEST_SKIP() << "the file system has no such lists";
  EXPECT_EQ(error, 0);
  EXPECT_EQ(ModeOf("keeps"), 02755u);
  EXPECT_EQ(set("loses", FUSE_SETXATTR_ACL_KILL_SGID), 0);
  EXPECT_EQ(ModeOf("loses"), 0755u);
}

TEST_F(SetIdBitsTest, OfAFileThatChangesItsOwner) {
  const auto file = fuse_.Create(kRoot, "file");
  // Without the right to execute, the bit stays whoever owns the file.
  SetMode("file", 02745);
  WithoutTheRight();
  fuse_setattr_in change{};
  change.valid = FATTR_UID | FATTR_KILL_SUIDGID;
  change.uid = 1000;
  EXPECT_EQ(fuse_.Send(FUSE_SETATTR, file.node, Struct(change)).error, 0);
  EXPECT_EQ(ModeOf("file"), 02745u);
}

}  // namespace
}  // namespace crosvm::devices::fs

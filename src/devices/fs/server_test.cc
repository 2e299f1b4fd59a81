// Every request of FUSE against a directory of the host.
#include "devices/fs/server.h"

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <map>
#include <set>

#include "devices/fs/fuse_driver.h"

namespace crosvm::devices::fs {
namespace {

constexpr uint64_t kRoot = FUSE_ROOT_ID;

class ServerTest : public ::testing::Test {
 protected:
  TestDirectory dir_;
  FuseDriver fuse_{dir_.path()};

  std::map<std::string, uint64_t> List(uint64_t node, uint32_t size, bool plus) {
    std::map<std::string, uint64_t> names;
    const FuseDriver::Opened directory = fuse_.Open(node, 0, FUSE_OPENDIR);
    EXPECT_EQ(directory.error, 0);
    uint64_t offset = 0;
    while (true) {
      const FuseDriver::Answer answer =
          fuse_.Read(node, directory.handle, offset, size, plus ? FUSE_READDIRPLUS : FUSE_READDIR);
      EXPECT_EQ(answer.error, 0);
      if (answer.data.empty()) break;
      for (size_t at = 0; at < answer.data.size();) {
        uint64_t child = 0;
        if (plus) {
          child = answer.As<fuse_entry_out>(at).nodeid;
          at += sizeof(fuse_entry_out);
        }
        const auto entry = answer.As<fuse_dirent>(at);
        const std::string name(answer.data.data() + at + FUSE_NAME_OFFSET, entry.namelen);
        EXPECT_TRUE(names.emplace(name, child).second) << name << " twice";
        offset = entry.off;
        at += FUSE_REC_ALIGN(FUSE_NAME_OFFSET + entry.namelen);
      }
    }
    fuse_.Release(node, directory.handle);
    return names;
  }
};

TEST_F(ServerTest, InitAgreesOnWhatBothCan) {
  const FuseDriver::Answer answer = fuse_.Init();
  const auto out = answer.As<fuse_init_out>();
  EXPECT_EQ(out.major, 7u);
  EXPECT_EQ(out.max_write, kMaxTransfer);
  EXPECT_NE(out.flags & FUSE_HANDLE_KILLPRIV_V2, 0u);
  EXPECT_EQ(out.flags & FUSE_WRITEBACK_CACHE, 0u);
  EXPECT_EQ(out.flags & FUSE_POSIX_LOCKS, 0u);
  EXPECT_EQ(fuse_.Init(FUSE_ASYNC_READ).As<fuse_init_out>().flags, uint32_t{FUSE_ASYNC_READ});
}

TEST_F(ServerTest, InitOfOldAndNewKernels) {
  fuse_init_in in{};
  in.major = 7;
  in.minor = 12;
  EXPECT_EQ(fuse_.Send(FUSE_INIT, 0, Struct(in)).error, EPROTO);
  in.major = 8;
  EXPECT_EQ(fuse_.Send(FUSE_INIT, 0, Struct(in)).As<fuse_init_out>().major, 7u);
  in.major = 6;
  EXPECT_EQ(fuse_.Send(FUSE_INIT, 0, Struct(in)).error, EPROTO);
}

TEST_F(ServerTest, LookupAndAttributes) {
  dir_.Write("file", "hello");
  const FuseDriver::Answer answer = fuse_.Send(FUSE_LOOKUP, kRoot, Text("file"));
  const auto entry = answer.As<fuse_entry_out>();
  EXPECT_EQ(entry.attr.size, 5u);
  EXPECT_EQ(entry.entry_valid, 5u);
  EXPECT_TRUE(S_ISREG(entry.attr.mode));
  EXPECT_EQ(fuse_.GetAttr(entry.nodeid).As<fuse_attr_out>().attr.ino, entry.attr.ino);
  EXPECT_EQ(fuse_.LookupError(kRoot, "other"), ENOENT);
  EXPECT_EQ(fuse_.LookupError(entry.nodeid, "below"), ENOTDIR);
  EXPECT_EQ(fuse_.Lookup(kRoot, "file"), entry.nodeid);
  // Two references: one is not enough.
  fuse_.Forget(entry.nodeid, 1);
  EXPECT_EQ(fuse_.GetAttr(entry.nodeid).error, 0);
  fuse_.Forget(entry.nodeid, 1);
  EXPECT_EQ(fuse_.GetAttr(entry.nodeid).error, ESTALE);
  EXPECT_EQ(fuse_.share().nodes().size(), 1u);
}

TEST_F(ServerTest, CreateWriteReadTruncate) {
  const auto file = fuse_.Create(kRoot, "new", O_RDWR | O_EXCL, 0666);
  ASSERT_EQ(file.error, 0);
  EXPECT_EQ(fuse_.Create(kRoot, "new", O_RDWR | O_EXCL).error, EEXIST);
  struct stat status{};
  ASSERT_EQ(stat((dir_ / "new").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0644u);
  EXPECT_EQ(fuse_.Write(file.node, file.handle, 3, "data").As<fuse_write_out>().size, 4u);
  EXPECT_EQ(fuse_.Read(file.node, file.handle, 0, 100).text(), std::string("\0\0\0data", 7));
  EXPECT_EQ(fuse_.Read(file.node, file.handle, 7, 100).text(), "");
  fuse_setattr_in change{};
  change.valid = FATTR_SIZE | FATTR_FH;
  change.size = 4;
  change.fh = file.handle;
  EXPECT_EQ(fuse_.Send(FUSE_SETATTR, file.node, Struct(change)).As<fuse_attr_out>().attr.size, 4u);
  fuse_.Release(file.node, file.handle);
  EXPECT_EQ(fuse_.Read(file.node, file.handle, 0, 1).error, EBADF);
  change.valid = FATTR_SIZE;
  change.size = 2;
  EXPECT_EQ(fuse_.Send(FUSE_SETATTR, file.node, Struct(change)).error, 0);
  EXPECT_EQ(dir_.Read("new"), std::string("\0\0", 2));
}

TEST_F(ServerTest, LargeTransfers) {
  const auto file = fuse_.Create(kRoot, "large");
  const std::string data(kMaxTransfer, 'x');
  EXPECT_EQ(fuse_.Write(file.node, file.handle, 0, data).As<fuse_write_out>().size, kMaxTransfer);
  EXPECT_EQ(fuse_.Read(file.node, file.handle, 0, kMaxTransfer).text(), data);
  fuse_write_in in{};
  in.fh = file.handle;
  in.size = kMaxTransfer;
  EXPECT_EQ(fuse_.Send(FUSE_WRITE, file.node, Struct(in).Raw("short")).error, EINVAL);
}

TEST_F(ServerTest, OpenFlags) {
  dir_.Write("file", "content");
  const uint64_t node = fuse_.Lookup(kRoot, "file");
  const auto write_only = fuse_.Open(node, O_WRONLY);
  EXPECT_EQ(fuse_.Read(node, write_only.handle, 0, 1).error, EBADF);
  fuse_.Release(node, write_only.handle);
  for (const uint32_t how : {O_WRONLY, O_RDONLY, O_RDWR}) {
    dir_.Write("file", "content");
    const auto truncate = fuse_.Open(node, how | O_TRUNC);
    EXPECT_EQ(truncate.error, 0);
    EXPECT_EQ(dir_.Read("file"), "");
    fuse_.Release(node, truncate.handle);
  }
  const auto read_only = fuse_.Open(node, O_RDONLY);
  EXPECT_EQ(fuse_.Write(node, read_only.handle, 0, "x").error, EBADF);
  EXPECT_EQ(fuse_.Open(kRoot, O_RDONLY).error, EISDIR);
  EXPECT_EQ(fuse_.Open(node, O_RDONLY, FUSE_OPENDIR).error, ENOTDIR);
}

TEST_F(ServerTest, Directories) {
  const FuseDriver::Answer made =
      fuse_.Send(FUSE_MKDIR, kRoot, Struct(fuse_mkdir_in{.mode = 0777, .umask = 027}).Text("sub"));
  const uint64_t sub = made.As<fuse_entry_out>().nodeid;
  EXPECT_EQ(made.As<fuse_entry_out>().attr.mode, S_IFDIR | 0750u);
  EXPECT_EQ(
      fuse_.Send(FUSE_MKDIR, kRoot, Struct(fuse_mkdir_in{.mode = 0777, .umask = 0}).Text("sub"))
          .error,
      EEXIST);
  ASSERT_EQ(fuse_.Create(sub, "file").error, 0);
  EXPECT_EQ(fuse_.Send(FUSE_RMDIR, kRoot, Text("sub")).error, ENOTEMPTY);
  EXPECT_EQ(fuse_.Send(FUSE_UNLINK, kRoot, Text("sub")).error, EISDIR);
  EXPECT_EQ(fuse_.Send(FUSE_RMDIR, sub, Text("file")).error, ENOTDIR);
  EXPECT_EQ(fuse_.Send(FUSE_UNLINK, sub, Text("file")).error, 0);
  EXPECT_EQ(fuse_.Send(FUSE_RMDIR, kRoot, Text("sub")).error, 0);
  EXPECT_EQ(fuse_.Send(FUSE_RMDIR, kRoot, Text("sub")).error, ENOENT);
}

TEST_F(ServerTest, ListingIsCompleteAtEverySize) {
  std::set<std::string> expected = {".", ".."};
  for (int i = 0; i < 300; ++i) {
    const std::string name = fmt::format("{:0{}}", i, 3 + i % 200);
    dir_.Write(name, "");
    expected.insert(name);
  }
  for (const uint32_t size : {512u, 1000u, 4096u, 32768u, 1u << 20}) {
    for (const bool plus : {false, true}) {
      const auto names = List(kRoot, size, plus);
      std::set<std::string> got;
      for (const auto& [name, node] : names) {
        got.insert(name);
        if (plus) {
          EXPECT_EQ(node == 0, name == "." || name == "..") << name;
        }
      }
      EXPECT_EQ(got, expected) << size << plus;
    }
  }
}

TEST_F(ServerTest, LinksAndSpecialFiles) {
  const FuseDriver::Answer link = fuse_.Send(FUSE_SYMLINK, kRoot, Text("link").Text("/etc/passwd"));
  const uint64_t node = link.As<fuse_entry_out>().nodeid;
  EXPECT_TRUE(S_ISLNK(link.As<fuse_entry_out>().attr.mode));
  EXPECT_EQ(fuse_.Send(FUSE_READLINK, node).text(), "/etc/passwd");
  EXPECT_EQ(fuse_.Send(FUSE_READLINK, kRoot).error, EINVAL);
  fuse_mknod_in in{.mode = S_IFIFO | 0600, .rdev = 0, .umask = 0, .padding = 0};
  EXPECT_EQ(fuse_.Send(FUSE_MKNOD, kRoot, Struct(in).Text("fifo")).error, 0);
  in.mode = S_IFSOCK | 0600;
  EXPECT_EQ(fuse_.Send(FUSE_MKNOD, kRoot, Struct(in).Text("socket")).error, 0);
  in.mode = S_IFREG | 0600;
  const uint64_t file =
      fuse_.Send(FUSE_MKNOD, kRoot, Struct(in).Text("file")).As<fuse_entry_out>().nodeid;
  const FuseDriver::Answer hard =
      fuse_.Send(FUSE_LINK, kRoot, Struct(fuse_link_in{.oldnodeid = file}).Text("hard"));
  EXPECT_EQ(hard.As<fuse_entry_out>().nodeid, file);
  EXPECT_EQ(hard.As<fuse_entry_out>().attr.nlink, 2u);
  // A link to a link is a link to the link itself.
  const FuseDriver::Answer second =
      fuse_.Send(FUSE_LINK, kRoot, Struct(fuse_link_in{.oldnodeid = node}).Text("link2"));
  EXPECT_EQ(second.As<fuse_entry_out>().nodeid, node);
}

TEST_F(ServerTest, Rename) {
  dir_.Write("a", "A");
  dir_.Write("b", "B");
  const uint64_t a = fuse_.Lookup(kRoot, "a");
  const uint64_t b = fuse_.Lookup(kRoot, "b");
  const auto rename = [&](std::string_view from, std::string_view to, uint32_t flags) {
    return fuse_
        .Send(FUSE_RENAME2, kRoot,
              Struct(fuse_rename2_in{.newdir = kRoot, .flags = flags, .padding = 0})
                  .Text(from)
                  .Text(to))
        .error;
  };
  EXPECT_EQ(rename("a", "b", RENAME_NOREPLACE), EEXIST);
  EXPECT_EQ(rename("a", "b", RENAME_EXCHANGE), 0);
  EXPECT_EQ(fuse_.GetAttr(a).error, 0);
  EXPECT_EQ(fuse_.GetAttr(b).error, 0);
  EXPECT_EQ(fuse_.Lookup(kRoot, "a"), b);
  EXPECT_EQ(
      fuse_.Send(FUSE_RENAME, kRoot, Struct(fuse_rename_in{.newdir = kRoot}).Text("a").Text("c"))
          .error,
      0);
  EXPECT_EQ(fuse_.GetAttr(b).error, 0);
  EXPECT_EQ(rename("none", "x", 0), ENOENT);
  EXPECT_EQ(rename("c", "b", 1 << 20), EINVAL);
  EXPECT_EQ(rename("c", "b", 0), 0);
  EXPECT_EQ(dir_.Read("b"), "B");
}

TEST_F(ServerTest, ADirectoryMovesWithWhatIsKnownBelowIt) {
  ASSERT_EQ(mkdir((dir_ / "one").c_str(), 0755), 0);
  dir_.Write("one/file", "x");
  const uint64_t one = fuse_.Lookup(kRoot, "one");
  const uint64_t file = fuse_.Lookup(one, "file");
  EXPECT_EQ(
      fuse_
          .Send(FUSE_RENAME, kRoot, Struct(fuse_rename_in{.newdir = kRoot}).Text("one").Text("two"))
          .error,
      0);
  EXPECT_EQ(fuse_.GetAttr(file).error, 0);
  EXPECT_EQ(fuse_.Open(file).error, 0);
}

TEST_F(ServerTest, Attributes) {
  // Only root can give files away.
  const bool root = geteuid() == 0;
  const uid_t user = root ? 1234 : geteuid();
  const gid_t group = root ? 5678 : getegid();
  const auto file = fuse_.Create(kRoot, "file");
  fuse_setattr_in change{};
  change.valid = FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_MTIME | FATTR_ATIME_NOW;
  change.mode = 06755;
  change.uid = user;
  change.gid = group;
  change.mtime = 1000;
  change.mtimensec = 7;
  const auto out = fuse_.Send(FUSE_SETATTR, file.node, Struct(change)).As<fuse_attr_out>().attr;
  EXPECT_EQ(out.mode & 07777, 06755u);
  EXPECT_EQ(out.uid, user);
  EXPECT_EQ(out.gid, group);
  EXPECT_EQ(out.mtime, 1000u);
  EXPECT_EQ(out.mtimensec, 7u);
  EXPECT_GT(out.atime, 1000000000u);
  // Nanoseconds that mean something else to the kernel are not passed on.
  change.valid = FATTR_MTIME;
  change.mtimensec = UTIME_OMIT;
  EXPECT_EQ(fuse_.Send(FUSE_SETATTR, file.node, Struct(change)).error, 0);
}

TEST_F(ServerTest, WritesOfOthersClearSetIdBits) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, whose writes keep set-id bits";
  const auto file = fuse_.Create(kRoot, "file");
  const auto mode = [&] {
    struct stat status{};
    EXPECT_EQ(stat((dir_ / "file").c_str(), &status), 0);
    return status.st_mode & 07777;
  };
  ASSERT_EQ(chmod((dir_ / "file").c_str(), 06755), 0);
  fuse_.Write(file.node, file.handle, 0, "x");
  EXPECT_EQ(mode(), 06755u);
  fuse_.Write(file.node, file.handle, 0, "x", FUSE_WRITE_KILL_SUIDGID);
  EXPECT_EQ(mode(), 0755u);
  ASSERT_EQ(chmod((dir_ / "file").c_str(), 06755), 0);
  fuse_setattr_in change{};
  change.valid = FATTR_SIZE | FATTR_KILL_SUIDGID;
  EXPECT_EQ(fuse_.Send(FUSE_SETATTR, file.node, Struct(change)).error, 0);
  EXPECT_EQ(mode(), 0755u);
}

TEST_F(ServerTest, FilesBelongToWhoMakesThem) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to act as other users";
  ASSERT_EQ(chmod(dir_.path().c_str(), 0777), 0);
  fuse_.BeUser(1000, 2000);
  const auto file = fuse_.Create(kRoot, "file");
  fuse_.Send(FUSE_MKDIR, kRoot, Struct(fuse_mkdir_in{.mode = 0755, .umask = 0}).Text("sub"));
  for (const char* name : {"file", "sub"}) {
    struct stat status{};
    ASSERT_EQ(stat((dir_ / name).c_str(), &status), 0);
    EXPECT_EQ(status.st_uid, 1000u);
    EXPECT_EQ(status.st_gid, 2000u);
  }
  EXPECT_EQ(geteuid(), 0u);
  EXPECT_EQ(fuse_.Write(file.node, file.handle, 0, "x").error, 0);
}

TEST_F(ServerTest, SetIdBitsAreClearedAlsoAfterAnotherUserMadeAFile) {
  const auto file = fuse_.Create(kRoot, "file");
  ASSERT_EQ(chmod(dir_.path().c_str(), 0777), 0);
  fuse_.Write(file.node, file.handle, 0, "x", FUSE_WRITE_KILL_SUIDGID);
  fuse_.BeUser(1000, 2000);
  fuse_.Create(kRoot, "other");
  ASSERT_EQ(chmod((dir_ / "file").c_str(), 06755), 0);
  fuse_.Write(file.node, file.handle, 0, "x", FUSE_WRITE_KILL_SUIDGID);
  struct stat status{};
  ASSERT_EQ(stat((dir_ / "file").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0755u);
}

// The guest's kernel has seen that one of the user's other groups may write here.
TEST_F(ServerTest, FilesAreMadeByTheRightOfASupplementaryGroup) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to act as other users";
  ASSERT_EQ(chown(dir_.path().c_str(), 0, 3000), 0);
  ASSERT_EQ(chmod(dir_.path().c_str(), 0770), 0);
  fuse_.BeUser(1000, 2000);
  EXPECT_EQ(fuse_.Create(kRoot, "file").error, 0);
  const fuse_mkdir_in make{.mode = 0755, .umask = 0};
  EXPECT_EQ(fuse_.Send(FUSE_MKDIR, kRoot, Struct(make).Text("sub")).error, 0);
  struct stat status{};
  ASSERT_EQ(stat((dir_ / "sub").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 1000u);
}

TEST_F(ServerTest, ExtendedAttributes) {
  const auto file = fuse_.Create(kRoot, "file");
  const auto set = [&](std::string_view name, std::string_view value, uint32_t flags) {
    return fuse_
        .Send(FUSE_SETXATTR, file.node,
              Struct(fuse_setxattr_in{.size = static_cast<uint32_t>(value.size()),
                                      .flags = flags,
                                      .setxattr_flags = 0,
                                      .padding = 0})
                  .Text(name)
                  .Raw(value))
        .error;
  };
  const auto get = [&](std::string_view name, uint32_t size) {
    return fuse_.Send(FUSE_GETXATTR, file.node,
                      Struct(fuse_getxattr_in{.size = size, .padding = 0}).Text(name));
  };
  EXPECT_EQ(set("user.one", "value", 0), 0);
  EXPECT_EQ(set("user.one", "value", XATTR_CREATE), EEXIST);
  EXPECT_EQ(set("user.two", "", XATTR_REPLACE), ENODATA);
  EXPECT_EQ(get("user.one", 0).As<fuse_getxattr_out>().size, 5u);
  EXPECT_EQ(get("user.one", 100).text(), "value");
  EXPECT_EQ(get("user.one", 2).error, ERANGE);
  EXPECT_EQ(get("user.none", 0).error, ENODATA);
  const FuseDriver::Answer list =
      fuse_.Send(FUSE_LISTXATTR, file.node, Struct(fuse_getxattr_in{.size = 4096, .padding = 0}));
  EXPECT_THAT(list.text(), ::testing::HasSubstr(std::string("user.one\0", 9)));
  EXPECT_EQ(fuse_.Send(FUSE_REMOVEXATTR, file.node, Text("user.one")).error, 0);
  EXPECT_EQ(fuse_.Send(FUSE_REMOVEXATTR, file.node, Text("user.one")).error, ENODATA);
  EXPECT_EQ(set("", "x", 0), ERANGE);
  EXPECT_EQ(set(std::string(300, 'n'), "x", 0), ERANGE);
}

TEST_F(ServerTest, SyncAllocateSeekCopy) {
  const auto file = fuse_.Create(kRoot, "file");
  EXPECT_EQ(
      fuse_
          .Send(FUSE_FALLOCATE, file.node,
                Struct(fuse_fallocate_in{
                    .fh = file.handle, .offset = 0, .length = 1 << 20, .mode = 0, .padding = 0}))
          .error,
      0);
  EXPECT_EQ(fuse_.GetAttr(file.node).As<fuse_attr_out>().attr.size, 1u << 20);
  fuse_fsync_in sync{.fh = file.handle, .fsync_flags = 0, .padding = 0};
  EXPECT_EQ(fuse_.Send(FUSE_FSYNC, file.node, Struct(sync)).error, 0);
  sync.fsync_flags = FUSE_FSYNC_FDATASYNC;
  EXPECT_EQ(fuse_.Send(FUSE_FSYNC, file.node, Struct(sync)).error, 0);
  EXPECT_EQ(fuse_.Send(FUSE_SYNCFS, kRoot, Struct(uint64_t{0})).error, 0);
  fuse_lseek_in seek{.fh = file.handle, .offset = 0, .whence = SEEK_HOLE, .padding = 0};
  EXPECT_EQ(fuse_.Send(FUSE_LSEEK, file.node, Struct(seek)).error, 0);
  seek.whence = SEEK_SET;
  EXPECT_EQ(fuse_.Send(FUSE_LSEEK, file.node, Struct(seek)).error, EINVAL);
  const auto copy = fuse_.Create(kRoot, "copy");
  fuse_.Write(file.node, file.handle, 0, "copied");
  fuse_copy_file_range_in in{};
  in.fh_in = file.handle;
  in.fh_out = copy.handle;
  in.nodeid_out = copy.node;
  in.len = 6;
  EXPECT_EQ(fuse_.Send(FUSE_COPY_FILE_RANGE, file.node, Struct(in)).As<fuse_write_out>().size, 6u);
  EXPECT_EQ(dir_.Read("copy"), "copied");
}

TEST_F(ServerTest, TemporaryFileHasNoName) {
  const FuseDriver::Answer answer = fuse_.Send(
      FUSE_TMPFILE, kRoot,
      Struct(fuse_create_in{.flags = O_RDWR | O_EXCL, .mode = 0600, .umask = 0, .open_flags = 0})
          .Text(""));
  ASSERT_EQ(answer.error, 0);
  const uint64_t node = answer.As<fuse_entry_out>().nodeid;
  const uint64_t handle = answer.As<fuse_open_out>(sizeof(fuse_entry_out)).fh;
  EXPECT_EQ(fuse_.Write(node, handle, 0, "x").error, 0);
  EXPECT_EQ(fuse_.GetAttr(node).As<fuse_attr_out>().attr.size, 1u);
  EXPECT_EQ(List(kRoot, 4096, false).size(), 2u);
}

TEST_F(ServerTest, StatxAndFileSystem) {
  const auto file = fuse_.Create(kRoot, "file");
  const auto out = fuse_.Send(kOpStatx, file.node, Struct(StatxIn{})).As<StatxOut>();
  EXPECT_TRUE(S_ISREG(out.stat.mode));
  EXPECT_GT(fuse_.Send(FUSE_STATFS, kRoot).As<fuse_statfs_out>().st.blocks, 0u);
}

TEST_F(ServerTest, FlagsOfFiles) {
  const auto file = fuse_.Create(kRoot, "file");
  fuse_ioctl_in in{};
  in.fh = file.handle;
  in.cmd = FS_IOC_GETFLAGS;
  const FuseDriver::Answer flags = fuse_.Send(FUSE_IOCTL, file.node, Struct(in));
  EXPECT_TRUE(flags.error == 0 || flags.error == ENOTTY) << flags.error;
  in.cmd = 0x1234;
  EXPECT_EQ(fuse_.Send(FUSE_IOCTL, file.node, Struct(in)).error, ENOTTY);
  in.flags = FUSE_IOCTL_UNRESTRICTED;
  EXPECT_EQ(fuse_.Send(FUSE_IOCTL, file.node, Struct(in)).error, EPERM);
}

TEST_F(ServerTest, WhatIsNotThereIsSaidSo) {
  for (const uint32_t opcode :
       {FUSE_FLUSH, FUSE_ACCESS, FUSE_GETLK, FUSE_SETLK, FUSE_BMAP, FUSE_POLL, FUSE_SETUPMAPPING}) {
    EXPECT_EQ(fuse_.Send(opcode, kRoot, Struct(uint64_t{0})).error, ENOSYS) << opcode;
  }
  EXPECT_EQ(fuse_.Send(7, kRoot).error, ENOSYS);
  EXPECT_EQ(fuse_.Send(99999, kRoot).error, ENOSYS);
}

TEST_F(ServerTest, AFileWithoutANameLivesWhileItIsOpen) {
  const auto file = fuse_.Create(kRoot, "file");
  fuse_.Write(file.node, file.handle, 0, "still here");
  EXPECT_EQ(fuse_.Send(FUSE_UNLINK, kRoot, Text("file")).error, 0);
  EXPECT_EQ(fuse_.GetAttr(file.node).As<fuse_attr_out>().attr.nlink, 0u);
  EXPECT_EQ(fuse_.Read(file.node, file.handle, 0, 100).text(), "still here");
  fuse_setattr_in change{};
  change.valid = FATTR_MODE;
  change.mode = 0600;
  EXPECT_EQ(fuse_.Send(FUSE_SETATTR, file.node, Struct(change)).error, 0);
  EXPECT_EQ(fuse_.Open(file.node, O_RDWR).error, 0);
}

TEST_F(ServerTest, ManyFilesNeedFewDescriptors) {
  for (int i = 0; i < 40; ++i) {
    const std::string sub = fmt::format("d{}", i);
    ASSERT_EQ(mkdir((dir_ / sub).c_str(), 0755), 0);
    for (int k = 0; k < 20; ++k) dir_.Write(fmt::format("{}/f{}", sub, k), "x");
  }
  std::vector<uint64_t> files;
  for (int i = 0; i < 40; ++i) {
    const uint64_t sub = fuse_.Lookup(kRoot, fmt::format("d{}", i));
    for (int k = 0; k < 20; ++k) files.push_back(fuse_.Lookup(sub, fmt::format("f{}", k)));
  }
  EXPECT_LE(fuse_.share().descriptors(), 128u);
  for (const uint64_t file : files) EXPECT_EQ(fuse_.GetAttr(file).error, 0);
  for (const uint64_t file : files) {
    const auto open = fuse_.Open(file);
    ASSERT_EQ(open.error, 0);
    fuse_.Release(file, open.handle);
  }
  EXPECT_LE(fuse_.share().descriptors(), 128u);
}

TEST_F(ServerTest, LimitsAreErrorsOfOneRequest) {
  FuseDriver fuse(dir_.path(),
                  {.server = {.max_open = 16}, .share = {.max_nodes = 64, .max_descriptors = 64}});
  for (int i = 0; i < 200; ++i) dir_.Write(fmt::format("f{}", i), "x");
  std::vector<uint64_t> nodes;
  int refused = 0;
  for (int i = 0; i < 200; ++i) {
    const auto answer = fuse.Send(FUSE_LOOKUP, kRoot, Text(fmt::format("f{}", i)));
    if (answer.error == 0) nodes.push_back(answer.As<fuse_entry_out>().nodeid);
    if (answer.error != 0) {
      EXPECT_EQ(answer.error, ENFILE);
    }
    refused += answer.error != 0;
  }
  EXPECT_GT(refused, 0);
  ASSERT_GE(nodes.size(), 4u);
  std::vector<uint64_t> handles;
  for (int i = 0; i < 40; ++i) {
    const auto open = fuse.Open(nodes[0]);
    if (open.error == 0) handles.push_back(open.handle);
    if (open.error != 0) {
      EXPECT_EQ(open.error, ENFILE);
    }
  }
  EXPECT_EQ(handles.size(), 16u);
  // Everything is still there, and goes on once there is room.
  fuse.Release(nodes[0], handles[0]);
  const auto directory = fuse.Open(kRoot, 0, FUSE_OPENDIR);
  ASSERT_EQ(directory.error, 0);
  int entries = 0;
  for (uint64_t offset = 0;;) {
    const auto answer = fuse.Read(kRoot, directory.handle, offset, 65536, FUSE_READDIRPLUS);
    if (answer.data.empty()) break;
    for (size_t at = 0; at < answer.data.size();) {
      at += sizeof(fuse_entry_out);
      const auto entry = answer.As<fuse_dirent>(at);
      offset = entry.off;
      at += FUSE_REC_ALIGN(FUSE_NAME_OFFSET + entry.namelen);
      ++entries;
    }
  }
  EXPECT_EQ(entries, 202);
}

TEST_F(ServerTest, CacheModes) {
  dir_.Write("file", "x");
  FuseDriver never(dir_.path(), {.server = {.cache = Cache::kNever}});
  const auto entry = never.Send(FUSE_LOOKUP, kRoot, Text("file")).As<fuse_entry_out>();
  EXPECT_EQ(entry.entry_valid, 0u);
  EXPECT_EQ(entry.attr_valid, 0u);
  EXPECT_NE(
      never.Send(FUSE_OPEN, entry.nodeid, Struct(fuse_open_in{})).As<fuse_open_out>().open_flags &
          FOPEN_DIRECT_IO,
      0u);
  FuseDriver always(dir_.path(), {.server = {.cache = Cache::kAlways, .timeout = 9}});
  const auto nothing = always.Send(FUSE_LOOKUP, kRoot, Text("none"));
  EXPECT_EQ(nothing.error, 0);
  EXPECT_EQ(nothing.As<fuse_entry_out>().nodeid, 0u);
  EXPECT_EQ(nothing.As<fuse_entry_out>().entry_valid, 9u);
}

TEST_F(ServerTest, ReadOnly) {
  dir_.Write("file", "x");
  FuseDriver fuse(dir_.path(),
                  {.share = {.max_nodes = 4096, .max_descriptors = 64, .read_only = true}});
  const uint64_t node = fuse.Lookup(kRoot, "file");
  EXPECT_EQ(fuse.Open(node, O_RDONLY).error, 0);
  EXPECT_EQ(fuse.Open(node, O_RDWR).error, EROFS);
  EXPECT_EQ(fuse.Open(node, O_RDONLY | O_TRUNC).error, EROFS);
  EXPECT_EQ(fuse.Create(kRoot, "new").error, EROFS);
  EXPECT_EQ(fuse.Send(FUSE_UNLINK, kRoot, Text("file")).error, EROFS);
  EXPECT_EQ(fuse.Send(FUSE_SETATTR, node, Struct(fuse_setattr_in{})).error, EROFS);
  EXPECT_EQ(fuse.Send(FUSE_SYMLINK, kRoot, Text("l").Text("t")).error, EROFS);
  EXPECT_EQ(fuse.Send(FUSE_REMOVEXATTR, node, Text("user.x")).error, EROFS);
}

TEST_F(ServerTest, SecurityAttributesUnderAnotherName) {
  FuseDriver fuse(
      dir_.path(),
      {.share = {.max_nodes = 4096, .max_descriptors = 64, .rewrite_security_xattrs = true}});
  const auto file = fuse.Create(kRoot, "file");
  const auto set = [&](std::string_view name) {
    return fuse
        .Send(FUSE_SETXATTR, file.node,
              Struct(fuse_setxattr_in{.size = 1, .flags = 0, .setxattr_flags = 0, .padding = 0})
                  .Text(name)
                  .Raw("v"))
        .error;
  };
  EXPECT_EQ(set("security.sehash"), 0);
  EXPECT_EQ(set("user.virtiofs.security.x"), EPERM);
  char value[8];
  EXPECT_EQ(getxattr((dir_ / "file").c_str(), "user.virtiofs.security.sehash", value, 8), 1);
  const auto list =
      fuse.Send(FUSE_LISTXATTR, file.node, Struct(fuse_getxattr_in{.size = 4096, .padding = 0}));
  EXPECT_EQ(list.text(), std::string("security.sehash\0", 16));
}

TEST_F(ServerTest, NamesWithoutCase) {
  dir_.Write("ReadMe.TXT", "x");
  EXPECT_EQ(fuse_.LookupError(kRoot, "readme.txt"), ENOENT);
  FuseDriver fuse(dir_.path(),
                  {.share = {.max_nodes = 4096, .max_descriptors = 64, .ascii_casefold = true}});
  const uint64_t node = fuse.Lookup(kRoot, "readme.txt");
  EXPECT_EQ(node, fuse.Lookup(kRoot, "ReadMe.TXT"));
  EXPECT_EQ(fuse.Open(node).error, 0);
}

}  // namespace
}  // namespace crosvm::devices::fs

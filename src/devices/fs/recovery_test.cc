// A process that follows one that died: the same nodes and open files, and requests that were half
// done are not done twice.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/fs/fuse_driver.h"

namespace crosvm::devices::fs {
namespace {

constexpr uint64_t kRoot = FUSE_ROOT_ID;
const std::string kLongName(250, 'l');

class RecoveryTest : public ::testing::Test {
 protected:
  // The last request as the successor sees it: it was in flight, and the work was done but for the
  // answer.
  FuseDriver::Answer Again(uint32_t opcode, uint64_t node, const Bytes& arguments) {
    fuse_.Restart();
    return fuse_.Send(opcode, node, arguments, 65536, true);
  }

  TestDirectory dir_;
  FuseDriver fuse_{dir_.path()};
};

TEST_F(RecoveryTest, NodesAndFilesStay) {
  ASSERT_EQ(mkdir((dir_ / kLongName).c_str(), 0755), 0);
  const uint64_t sub = fuse_.Lookup(kRoot, kLongName);
  const auto file = fuse_.Create(sub, "file");
  fuse_.Write(file.node, file.handle, 0, "data");
  const auto directory = fuse_.Open(kRoot, 0, FUSE_OPENDIR);
  fuse_.Restart();
  EXPECT_EQ(fuse_.Read(file.node, file.handle, 0, 10).text(), "data");
  EXPECT_EQ(fuse_.Write(file.node, file.handle, 4, "more").error, 0);
  EXPECT_EQ(fuse_.GetAttr(sub).error, 0);
  EXPECT_EQ(fuse_.Lookup(sub, "file"), file.node);
  EXPECT_FALSE(fuse_.Read(kRoot, directory.handle, 0, 4096, FUSE_READDIR).data.empty());
  fuse_.Forget(file.node, 2);
  fuse_.Release(file.node, file.handle);
  EXPECT_EQ(fuse_.GetAttr(file.node).error, ESTALE);
}

TEST_F(RecoveryTest, FilesWithoutANameStay) {
  const auto file = fuse_.Create(kRoot, "file");
  const auto other = fuse_.Create(kRoot, "other");
  fuse_.Write(file.node, file.handle, 0, "still here");
  EXPECT_EQ(fuse_.Send(FUSE_UNLINK, kRoot, Text("file")).error, 0);
  EXPECT_EQ(fuse_
                .Send(FUSE_RENAME, kRoot,
                      Struct(fuse_rename_in{.newdir = kRoot}).Text("other").Text("third"))
                .error,
            0);
  for (int i = 0; i < 3; ++i) {
    fuse_.Restart();
    EXPECT_EQ(fuse_.Read(file.node, file.handle, 0, 100).text(), "still here");
    EXPECT_EQ(fuse_.GetAttr(file.node).error, 0);
    EXPECT_EQ(fuse_.Read(other.node, other.handle, 0, 100).error, 0);
  }
  fuse_.Release(file.node, file.handle);
  fuse_.Restart();
  EXPECT_EQ(fuse_.Read(file.node, file.handle, 0, 100).error, EBADF);
}

TEST_F(RecoveryTest, WhatWasNegotiatedStays) {
  fuse_.Restart();
  const auto file = fuse_.Create(kRoot, "file");
  // The extended form of SETXATTR, as INIT agreed on.
  EXPECT_EQ(
      fuse_
          .Send(FUSE_SETXATTR, file.node,
                Struct(fuse_setxattr_in{.size = 1, .flags = 0, .setxattr_flags = 0, .padding = 0})
                    .Text("user.x")
                    .Raw("v"))
          .error,
      0);
}

TEST_F(RecoveryTest, MadeOnceOnly) {
  const Bytes mkdir_arguments = Struct(fuse_mkdir_in{.mode = 0755, .umask = 0}).Text("sub");
  const uint64_t sub = fuse_.Send(FUSE_MKDIR, kRoot, mkdir_arguments).As<fuse_entry_out>().nodeid;
  EXPECT_EQ(Again(FUSE_MKDIR, kRoot, mkdir_arguments).As<fuse_entry_out>().nodeid, sub);
  const Bytes create_arguments =
      Struct(fuse_create_in{
                 .flags = O_RDWR | O_CREAT | O_EXCL, .mode = 0644, .umask = 0, .open_flags = 0})
          .Text("file");
  const uint64_t node =
      fuse_.Send(FUSE_CREATE, kRoot, create_arguments).As<fuse_entry_out>().nodeid;
  EXPECT_EQ(Again(FUSE_CREATE, kRoot, create_arguments).As<fuse_entry_out>().nodeid, node);
  EXPECT_EQ(fuse_.Send(FUSE_UNLINK, kRoot, Text("file")).error, 0);
  EXPECT_EQ(Again(FUSE_UNLINK, kRoot, Text("file")).error, 0);
  EXPECT_EQ(fuse_.Send(FUSE_RMDIR, kRoot, Text("sub")).error, 0);
  EXPECT_EQ(Again(FUSE_RMDIR, kRoot, Text("sub")).error, 0);
  // An error stays the error.
  EXPECT_EQ(fuse_.Send(FUSE_RMDIR, kRoot, Text("sub")).error, ENOENT);
  EXPECT_EQ(Again(FUSE_RMDIR, kRoot, Text("sub")).error, ENOENT);
}

TEST_F(RecoveryTest, RenamedOnceOnly) {
  dir_.Write("a", "A");
  const uint64_t node = fuse_.Lookup(kRoot, "a");
  const Bytes arguments = Struct(fuse_rename_in{.newdir = kRoot}).Text("a").Text("b");
  EXPECT_EQ(fuse_.Send(FUSE_RENAME, kRoot, arguments).error, 0);
  EXPECT_EQ(Again(FUSE_RENAME, kRoot, arguments).error, 0);
  EXPECT_EQ(fuse_.GetAttr(node).error, 0);
  EXPECT_EQ(fuse_.Lookup(kRoot, "b"), node);
}

TEST_F(RecoveryTest, AppendedOnceOnly) {
  dir_.Write("log", "one\n");
  const uint64_t node = fuse_.Lookup(kRoot, "log");
  const auto open = fuse_.Open(node, O_WRONLY | O_APPEND);
  EXPECT_EQ(fuse_.Write(node, open.handle, 4, "two\n").error, 0);
  fuse_.Restart();
  EXPECT_EQ(fuse_.Write(node, open.handle, 4, "two\n", 0, true).As<fuse_write_out>().size, 4u);
  EXPECT_EQ(dir_.Read("log"), "one\ntwo\n");
}

TEST_F(RecoveryTest, ForgottenOnceOnly) {
  dir_.Write("file", "x");
  const uint64_t node = fuse_.Lookup(kRoot, "file");
  fuse_.Lookup(kRoot, "file");
  const Bytes one = Struct(fuse_forget_in{.nlookup = 1});
  fuse_.Send(FUSE_FORGET, node, one);
  Again(FUSE_FORGET, node, one);
  EXPECT_EQ(fuse_.GetAttr(node).error, 0);
}

TEST_F(RecoveryTest, WhatNobodyBeganIsDone) {
  EXPECT_EQ(
      Again(FUSE_MKDIR, kRoot, Struct(fuse_mkdir_in{.mode = 0755, .umask = 0}).Text("sub")).error,
      0);
  struct stat status{};
  EXPECT_EQ(stat((dir_ / "sub").c_str(), &status), 0);
}

TEST_F(RecoveryTest, AnUnmountForgetsEverything) {
  const auto file = fuse_.Create(kRoot, "file");
  EXPECT_EQ(fuse_.Send(FUSE_DESTROY, 0).error, 0);
  EXPECT_EQ(fuse_.share().nodes().size(), 1u);
  EXPECT_EQ(fuse_.share().descriptors(), 0u);
  EXPECT_EQ(fuse_.Read(file.node, file.handle, 0, 1).error, EBADF);
  fuse_.Init();
  EXPECT_EQ(fuse_.GetAttr(file.node).error, ESTALE);
  EXPECT_NE(fuse_.Lookup(kRoot, "file"), 0u);
}

}  // namespace
}  // namespace crosvm::devices::fs

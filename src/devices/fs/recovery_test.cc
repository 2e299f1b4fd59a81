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

  ino_t InodeOf(std::string_view name) const {
    struct stat status{};
    EXPECT_EQ(stat((dir_ / name).c_str(), &status), 0);
    return status.st_ino;
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

// The successor has other things to do first, and dies as well.
TEST_F(RecoveryTest, WhatWasNotedOutlivesOtherRequests) {
  const auto make_directory = [](std::string_view name) {
    return Struct(fuse_mkdir_in{.mode = 0755, .umask = 0}).Text(name);
  };
  EXPECT_EQ(fuse_.Send(FUSE_MKDIR, kRoot, make_directory("first")).error, 0);
  fuse_in_header header{};
  header.opcode = FUSE_MKDIR;
  header.unique = fuse_.last_unique();
  header.nodeid = kRoot;
  for (const char* name : {"second", "third"}) {
    fuse_.Restart();
    EXPECT_EQ(fuse_.Send(FUSE_MKDIR, kRoot, make_directory(name)).error, 0);
  }
  fuse_.Restart();
  const Bytes arguments = make_directory("first");
  header.len = static_cast<uint32_t>(sizeof(header) + arguments.data().size());
  Bytes message = Struct(header);
  message.Raw({arguments.data().data(), arguments.data().size()});
  EXPECT_EQ(fuse_.SendRaw(message, 65536, true).error, 0);
  EXPECT_EQ(fuse_.Send(FUSE_MKDIR, kRoot, make_directory("first")).error, EEXIST);
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

// The predecessor died before it renamed: the file that is there already is not what was renamed.
TEST_F(RecoveryTest, ANoteWithoutARenameRenames) {
  dir_.Write("a", "A");
  dir_.Write("b", "B");
  const uint64_t node = fuse_.Lookup(kRoot, "a");
  fuse_.Lookup(kRoot, "b");
  const Bytes arguments = Struct(fuse_rename_in{.newdir = kRoot}).Text("a").Text("b");
  EXPECT_EQ(fuse_.Send(FUSE_RENAME, kRoot, arguments).error, 0);
  // As before the rename, but for the note.
  ASSERT_EQ(rename((dir_ / "b").c_str(), (dir_ / "a").c_str()), 0);
  dir_.Write("b", "B");
  fuse_.SetNote(SessionState::Stage::kBegun, static_cast<int64_t>(InodeOf("a")));
  EXPECT_EQ(Again(FUSE_RENAME, kRoot, arguments).error, 0);
  EXPECT_EQ(access((dir_ / "a").c_str(), F_OK), -1);
  EXPECT_EQ(fuse_.Lookup(kRoot, "b"), node);
}

// The predecessor died after it had renamed and before it could write down where its node is now.
TEST_F(RecoveryTest, ARenameThatWasNotWrittenDown) {
  for (const char* name : {"a", "b"}) dir_.Write(name, name);
  const uint64_t a = fuse_.Lookup(kRoot, "a");
  const uint64_t b = fuse_.Lookup(kRoot, "b");
  const auto open = fuse_.Open(a, O_RDONLY);
  const Bytes arguments =
      Struct(fuse_rename2_in{.newdir = kRoot, .flags = RENAME_EXCHANGE, .padding = 0})
          .Text("a")
          .Text("b");
  EXPECT_EQ(fuse_.Send(FUSE_RENAME2, kRoot, arguments).error, 0);
  shared_dir::NodeTable& nodes = fuse_.share().nodes();
  nodes.Moved(nodes.Place(a)->key, kRoot, "a");
  nodes.Moved(nodes.Place(b)->key, kRoot, "b");
  fuse_.SetNote(SessionState::Stage::kBegun, static_cast<int64_t>(InodeOf("b")));
  EXPECT_EQ(Again(FUSE_RENAME2, kRoot, arguments).error, 0);
  EXPECT_EQ(fuse_.Read(a, open.handle, 0, 10).text(), "a");
  EXPECT_EQ(fuse_.Lookup(kRoot, "b"), a);
  EXPECT_EQ(fuse_.Lookup(kRoot, "a"), b);
}

// Opened while the name under which the file was found last is gone.
TEST_F(RecoveryTest, AFileOpenedByAnotherNameStays) {
  dir_.Write("a", "text");
  const uint64_t node = fuse_.Lookup(kRoot, "a");
  EXPECT_EQ(fuse_.Send(FUSE_LINK, kRoot, Struct(fuse_link_in{.oldnodeid = node}).Text("b")).error,
            0);
  EXPECT_EQ(fuse_.Send(FUSE_UNLINK, kRoot, Text("b")).error, 0);
  const auto open = fuse_.Open(node, O_RDONLY);
  fuse_.Restart();
  EXPECT_EQ(fuse_.Read(node, open.handle, 0, 10).text(), "text");
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

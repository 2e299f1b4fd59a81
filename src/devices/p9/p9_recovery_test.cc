// A process that follows one that died: the same fids, and what was under way is done once.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "devices/p9/testing/session.h"
#include "shared_dir/testing/stopped_call.h"

namespace crosvm::devices::p9 {
namespace {

using testing::Reply;
using testing::Session;

class RecoveryTest : public ::testing::Test {
 protected:
  Session s_;
};

TEST_F(RecoveryTest, ASuccessorKnowsTheFids) {
  s_.WriteFile("f", "content");
  ASSERT_EQ(s_.MakeDirectory(0, "d"), 0u);
  ASSERT_EQ(s_.Walk(0, 1, {"f"}), 0u);
  ASSERT_EQ(s_.Open(1, O_RDWR), 0u);
  ASSERT_EQ(s_.Walk(0, 2, {"d"}), 0u);
  ASSERT_EQ(s_.Walk(0, 3, {}), 0u);
  ASSERT_EQ(s_.Create(3, "made"), 0u);
  ASSERT_EQ(s_.Walk(0, 4, {"f"}), 0u);
  ASSERT_EQ(s_.Clunk(4), 0u);
  for (int round = 0; round < 3; ++round) {
    s_.Restart();
    EXPECT_EQ(s_.server().fids(), 4u);
    EXPECT_EQ(s_.Read(1), "content");
    EXPECT_EQ(s_.Write(3, "new"), 0u);
    EXPECT_EQ(s_.MakeDirectory(2, "sub" + std::to_string(round)), 0u);
    EXPECT_EQ(s_.Clunk(4), static_cast<uint32_t>(EBADF));
  }
  EXPECT_EQ(s_.ReadFile("made"), "new");
}

TEST_F(RecoveryTest, ASuccessorHasTheSameQidsOnEveryMount) {
  ASSERT_EQ(s_.MakeDirectory(0, "d"), 0u);
  if (mount("none", s_.Path("d").c_str(), "tmpfs", 0, nullptr) != 0) {
    GTEST_SKIP() << "needs to mount";
  }
  ASSERT_EQ(s_.Walk(0, 1, {"d"}), 0u);
  const uint64_t root = s_.PathOf(0);
  const uint64_t mounted = s_.PathOf(1);
  s_.Restart();
  // In another order than the predecessor was asked.
  EXPECT_EQ(s_.PathOf(1), mounted);
  EXPECT_EQ(s_.PathOf(0), root);
  EXPECT_EQ(umount2(s_.Path("d").c_str(), MNT_DETACH), 0);
}

TEST_F(RecoveryTest, ASuccessorHasOpenFilesWithoutAName) {
  s_.WriteFile("f", "content");
  s_.WriteFile("g", "other");
  for (const uint32_t fid : {1u, 2u}) {
    ASSERT_EQ(s_.Walk(0, fid, {"f"}), 0u);
    ASSERT_EQ(s_.Open(fid, O_RDWR), 0u);
  }
  ASSERT_EQ(s_.Walk(0, 3, {"g"}), 0u);
  ASSERT_EQ(s_.Open(3, O_RDONLY), 0u);
  ASSERT_EQ(s_.Unlink(0, "f"), 0u);
  s_.WriteFile("h", "new");
  ASSERT_EQ(s_.Rename(0, "h", 0, "g"), 0u);
  for (int round = 0; round < 2; ++round) {
    s_.Restart();
    EXPECT_EQ(s_.Read(1), "content");
    EXPECT_EQ(s_.Read(3), "other");
    EXPECT_EQ(s_.Getattr(1).error, 0u);
  }
  EXPECT_EQ(s_.Clunk(1), 0u);
  s_.Restart();
  EXPECT_EQ(s_.Read(2), "content");
  EXPECT_EQ(s_.Clunk(2), 0u);
}

// Opened by way of a descriptor that goes, after the name has gone.
TEST_F(RecoveryTest, ASuccessorHasWhatWasOpenedWithoutAName) {
  s_.WriteFile("f", "content");
  s_.WriteFile("g", "other");
  s_.WriteFile("h", "new");
  for (const char* name : {"f", "g"}) {
    ASSERT_EQ(s_.Walk(0, 1, {name}), 0u);
    ASSERT_EQ(s_.Open(1, O_RDONLY), 0u);
    ASSERT_EQ(*name == 'f' ? s_.Unlink(0, name) : s_.Rename(0, "h", 0, name), 0u);
    ASSERT_EQ(s_.Walk(1, 2, {}), 0u);
    ASSERT_EQ(s_.Open(2, O_RDONLY), 0u);
    ASSERT_EQ(s_.Clunk(1), 0u);
    s_.Restart();
    EXPECT_EQ(s_.Read(2), *name == 'f' ? "content" : "other");
    EXPECT_EQ(s_.Getattr(2).error, 0u);
    ASSERT_EQ(s_.Clunk(2), 0u);
  }
}

// By another request, between the first look at the name and its end.
TEST_F(RecoveryTest, ASuccessorHasWhatWasOpenedWhileItsNameWent) {
  using shared_dir::testing::RunUpToCall;
  s_.WriteFile("f", "content");
  s_.WriteFile("g", "other");
  s_.WriteFile("h", "new");
  ASSERT_EQ(s_.Walk(0, 1, {"f"}), 0u);
  ASSERT_EQ(s_.Walk(0, 2, {"g"}), 0u);
  RunUpToCall(
      SYS_unlinkat, [&] { EXPECT_EQ(s_.Unlink(0, "f"), 0u); },
      [&] { EXPECT_EQ(s_.Open(1, O_RDONLY), 0u); });
  RunUpToCall(
      SYS_renameat2, [&] { EXPECT_EQ(s_.Rename(0, "h", 0, "g"), 0u); },
      [&] { EXPECT_EQ(s_.Open(2, O_RDONLY), 0u); });
  s_.Restart();
  EXPECT_EQ(s_.Read(1), "content");
  EXPECT_EQ(s_.Read(2), "other");
}

// A file over another of its names: both stay.
TEST_F(RecoveryTest, ARenameThatDoesNothingTakesNoName) {
  s_.WriteFile("f", "content");
  ASSERT_EQ(link(s_.Path("f").c_str(), s_.Path("g").c_str()), 0);
  const shared_dir::NodeId node = s_.share().Lookup(shared_dir::kRootNode, "g")->node;
  ASSERT_EQ(s_.Rename(0, "f", 0, "g"), 0u);
  EXPECT_FALSE(s_.share().NameLost(node));
  EXPECT_EQ(s_.ReadFile("f"), "content");
}

TEST_F(RecoveryTest, AFidThatIsReplacedTakesItsFileWithoutANameAlong) {
  s_.WriteFile("f", "content");
  s_.WriteFile("g", "other");
  ASSERT_EQ(s_.Walk(0, 1, {"f"}), 0u);
  ASSERT_EQ(s_.Open(1, O_RDWR), 0u);
  ASSERT_EQ(s_.Unlink(0, "f"), 0u);
  MessageWriter walk;
  walk.U32(0).U32(1).U16(1).String("g");
  ASSERT_EQ(s_.Call(Type::kWalk, std::move(walk), {}, true).error, 0u);
  ASSERT_EQ(s_.Open(1, O_RDWR), 0u);
  ASSERT_EQ(s_.Unlink(0, "g"), 0u);
  s_.Restart();
  EXPECT_EQ(s_.Read(1), "other");
}

// The attribute itself is gone with the process; what was not done must not look done.
TEST_F(RecoveryTest, AnAttributeThatAPredecessorDidNotWriteIsAnError) {
  s_.WriteFile("f", "");
  ASSERT_EQ(setxattr(s_.Path("f").c_str(), "user.a", "old", 3, 0), 0);
  const auto begin = [&](uint32_t fid, uint64_t size, bool replayed) {
    MessageWriter create;
    create.U32(fid).String("user.a").U64(size).U32(0);
    return s_.Call(Type::kXattrcreate, std::move(create), {}, replayed).error;
  };
  const auto clunk = [&](uint32_t fid, bool replayed) {
    MessageWriter out;
    out.U32(fid);
    return s_.Call(Type::kClunk, std::move(out), {}, replayed).error;
  };
  const auto kError = static_cast<uint32_t>(EIO);
  // Taken away; written, but for the clunk; about to be written.
  for (const uint32_t fid : {1u, 2u, 3u, 4u}) ASSERT_EQ(s_.Walk(0, fid, {"f"}), 0u);
  ASSERT_EQ(begin(1, 0, false), 0u);
  ASSERT_EQ(begin(2, 3, false), 0u);
  ASSERT_EQ(s_.Write(2, "new"), 0u);
  ASSERT_EQ(begin(3, 3, false), 0u);
  ASSERT_EQ(begin(4, 3, false), 0u);
  s_.Restart();
  EXPECT_EQ(clunk(1, false), kError);
  EXPECT_EQ(clunk(2, true), kError);
  EXPECT_EQ(s_.Write(3, "new"), kError);
  EXPECT_EQ(clunk(3, false), kError);
  char value[8];
  EXPECT_EQ(getxattr(s_.Path("f").c_str(), "user.a", value, 8), 3);
  // One whose beginning comes once more is whole.
  EXPECT_EQ(begin(4, 3, true), 0u);
  EXPECT_EQ(s_.Write(4, "new"), 0u);
  EXPECT_EQ(clunk(4, false), 0u);
  EXPECT_EQ(getxattr(s_.Path("f").c_str(), "user.a", value, 8), 3);
  EXPECT_EQ(std::string_view(value, 3), "new");
  for (const uint32_t fid : {1u, 2u, 3u, 4u}) EXPECT_EQ(s_.Walk(fid, 9, {}), uint32_t{EBADF});
}

TEST_F(RecoveryTest, WhatAPredecessorMayHaveDoneIsDoneOnce) {
  s_.WriteFile("f", "x");
  // Done before the death, asked for again after it.
  EXPECT_EQ(s_.MakeDirectory(0, "d"), 0u);
  EXPECT_EQ(s_.MakeDirectory(0, "d", true), 0u);
  ASSERT_EQ(s_.Walk(0, 1, {"f"}), 0u);
  EXPECT_EQ(s_.Rename(0, "f", 0, "g"), 0u);
  EXPECT_EQ(s_.Rename(0, "f", 0, "g", true), 0u);
  EXPECT_EQ(s_.Unlink(0, "g"), 0u);
  EXPECT_EQ(s_.Unlink(0, "g", 0, true), 0u);
  MessageWriter clunk;
  clunk.U32(77);
  EXPECT_EQ(s_.Call(Type::kClunk, std::move(clunk), {}, true).error, 0u);
  ASSERT_EQ(s_.Walk(0, 2, {}), 0u);
  EXPECT_EQ(s_.Create(2, "made", O_RDWR | O_EXCL), 0u);
  EXPECT_EQ(s_.Write(2, "text"), 0u);
  EXPECT_EQ(s_.Create(2, "made", O_RDWR | O_EXCL, 0644, true), 0u);
  EXPECT_EQ(s_.Read(2), "text");
  EXPECT_EQ(s_.Create(2, "made"), uint32_t{EBUSY});
  // Not done before.
  EXPECT_EQ(s_.MakeDirectory(0, "e", true), 0u);
  EXPECT_NE(s_.Rename(0, "none", 0, "g", true), 0u);
}

// The predecessor died when the file was moved, in the directory and in the table, and did not yet
// keep the directory known.
TEST_F(RecoveryTest, AFileThatWasMovedKeepsItsDirectoryKnown) {
  ASSERT_EQ(s_.MakeDirectory(0, "d"), 0u);
  s_.WriteFile("f", "content");
  ASSERT_EQ(s_.Walk(0, 1, {"d"}), 0u);
  ASSERT_EQ(s_.Walk(0, 2, {"f"}), 0u);
  ASSERT_EQ(s_.Rename(0, "f", 1, "g"), 0u);
  shared_dir::Share& share = s_.share();
  const shared_dir::NodeId directory = share.Lookup(shared_dir::kRootNode, "d")->node;
  const shared_dir::NodeId file = share.Lookup(directory, "g")->node;
  ASSERT_EQ(share.nodes().Hold(file, directory, 0), directory);
  share.Forget(directory, 2);
  s_.Restart();
  EXPECT_EQ(s_.Rename(0, "f", 1, "g", true), 0u);
  EXPECT_EQ(s_.Clunk(1), 0u);
  EXPECT_EQ(s_.Open(2, O_RDONLY), 0u);
  EXPECT_EQ(s_.Read(2), "content");
}

// The predecessor died while it wrote down where the file is now.
TEST_F(RecoveryTest, AFileStaysWhoseMoveIsHalfWritten) {
  ASSERT_EQ(s_.MakeDirectory(0, "d"), 0u);
  s_.WriteFile("f", "content");
  ASSERT_EQ(s_.Walk(0, 1, {"d"}), 0u);
  ASSERT_EQ(s_.Walk(0, 2, {"f"}), 0u);
  const shared_dir::NodeId file = s_.share().Lookup(shared_dir::kRootNode, "f")->node;
  ASSERT_EQ(s_.Rename(0, "f", 1, "g"), 0u);
  // The length of the name in the node's record.
  const off_t place = 4096 + 128 * (static_cast<uint32_t>(file) - 1) + 46;
  ASSERT_EQ(pwrite(s_.nodes_state().get(), "", 1, place), 1);
  s_.Restart();
  EXPECT_EQ(s_.Getattr(2).error, uint32_t{ESTALE}) << "not what its directory is";
  EXPECT_EQ(s_.Open(2, O_RDONLY), uint32_t{ESTALE});
  EXPECT_EQ(s_.Rename(0, "f", 1, "g", true), 0u);
  EXPECT_EQ(s_.Clunk(1), 0u);
  EXPECT_EQ(s_.Open(2, O_RDONLY), 0u);
  EXPECT_EQ(s_.Read(2), "content");
}

// As Linux walks a path of more than 16 names: the fid goes on in its own place.
TEST_F(RecoveryTest, AFidIsWalkedOnceOnly) {
  ASSERT_EQ(mkdir(s_.Path("a").c_str(), 0755), 0);
  ASSERT_EQ(mkdir(s_.Path("a/b").c_str(), 0755), 0);
  ASSERT_EQ(mkdir(s_.Path("a/b/c").c_str(), 0755), 0);
  s_.WriteFile("a/b/c/f", "content");
  const auto walk = [&](std::initializer_list<const char*> names, bool replayed) {
    MessageWriter out;
    out.U32(1).U32(1).U16(static_cast<uint16_t>(names.size()));
    for (const char* name : names) out.String(name);
    const Reply reply = s_.Call(Type::kWalk, std::move(out), {}, replayed);
    if (reply.error != 0) return reply.error;
    return reply.Reader().U16() == names.size() ? 0u : static_cast<uint32_t>(ENOENT);
  };
  ASSERT_EQ(s_.Walk(0, 1, {}), 0u);
  // Done by the predecessor, then by one that died as well.
  EXPECT_EQ(walk({"a", "b"}, false), 0u);
  for (int death = 0; death < 2; ++death) {
    s_.Restart();
    EXPECT_EQ(walk({"a", "b"}, true), 0u);
  }
  // Not begun by it.
  s_.Restart();
  EXPECT_EQ(walk({"c"}, true), 0u);
  EXPECT_EQ(walk({"f"}, false), 0u);
  EXPECT_EQ(s_.Open(1, O_RDONLY), 0u);
  EXPECT_EQ(s_.Read(1), "content");
}

// By names that are not the ones on the disk.
TEST_F(RecoveryTest, AFidIsWalkedOnceOnlyByOtherNames) {
  Session s({.ascii_casefold = true});
  const auto walk = [&](std::initializer_list<const char*> names, bool replayed) {
    MessageWriter out;
    out.U32(1).U32(1).U16(static_cast<uint16_t>(names.size()));
    for (const char* name : names) out.String(name);
    return s.Call(Type::kWalk, std::move(out), {}, replayed).error;
  };
  for (const char* name : {"A", "A/B", "A/B/C", "A/B/C/D"}) {
    ASSERT_EQ(mkdir(s.Path(name).c_str(), 0755), 0);
  }
  const auto is_at = [&](const std::string& place) {
    struct stat status{};
    EXPECT_EQ(stat(s.Path(place).c_str(), &status), 0);
    return s.PathOf(1) == status.st_ino;
  };
  ASSERT_EQ(s.Walk(0, 1, {}), 0u);
  ASSERT_EQ(s.Walk(0, 2, {"a", "b", "c", "d"}), 0u);
  EXPECT_EQ(walk({"a", "b", "c"}, false), 0u);
  s.Restart();
  EXPECT_EQ(walk({"a", "b", "c"}, true), 0u);
  EXPECT_TRUE(is_at("A/B/C"));
  // Not begun.
  s.Restart();
  EXPECT_EQ(walk({"d"}, true), 0u);
  EXPECT_TRUE(is_at("A/B/C/D"));
  EXPECT_EQ(walk({".."}, false), 0u);
  s.Restart();
  EXPECT_EQ(walk({".."}, true), 0u);
  EXPECT_TRUE(is_at("A/B/C"));
  // Walked nowhere, so what comes next is another walk that was not begun.
  EXPECT_NE(walk({"none"}, false), 0u);
  s.Restart();
  EXPECT_EQ(walk({".."}, true), 0u);
  EXPECT_TRUE(is_at("A/B"));
}

// A fid that becomes another file has the old record until the new one is whole.
TEST_F(RecoveryTest, AFidIsNeverWithoutARecord) {
  struct Row {
    char text[28];
    uint32_t live;
  };
  constexpr off_t kRows = 16 + 8 * FidTable::kMaxDevices;
  std::array<Row, 4> before{};
  std::array<Row, 4> after{};
  const auto read = [&](std::array<Row, 4>& rows) {
    ASSERT_EQ(pread(s_.fids_state().get(), rows.data(), sizeof(rows), kRows),
              ssize_t{sizeof(rows)});
  };
  const auto walk = [&](bool replayed) {
    MessageWriter out;
    out.U32(1).U32(1).U16(1).String("d");
    return s_.Call(Type::kWalk, std::move(out), {}, replayed).error;
  };
  ASSERT_EQ(s_.MakeDirectory(0, "d"), 0u);
  ASSERT_EQ(s_.Walk(0, 1, {}), 0u);
  read(before);
  ASSERT_EQ(walk(false), 0u);
  read(after);
  for (size_t i = 0; i < before.size(); ++i) {
    if (before[i].live == 0) continue;
    EXPECT_EQ(memcmp(before[i].text, after[i].text, sizeof(before[i].text)), 0) << i;
    after[i].live = 1;
  }
  // The death in between.
  ASSERT_EQ(pwrite(s_.fids_state().get(), after.data(), sizeof(after), kRows),
            ssize_t{sizeof(after)});
  s_.Restart();
  EXPECT_EQ(s_.server().fids(), 2u);
  EXPECT_EQ(walk(true), 0u);
  s_.Restart();
  EXPECT_EQ(s_.server().fids(), 2u);
  EXPECT_EQ(s_.MakeDirectory(1, "e"), 0u);
  EXPECT_EQ(access(s_.Path("d/e").c_str(), F_OK), 0);
}

TEST_F(RecoveryTest, AFileIsTakenAwayOnceOnly) {
  const auto take_away = [&](uint32_t fid, bool replayed) {
    MessageWriter out;
    out.U32(fid);
    return s_.Call(Type::kRemove, std::move(out), {}, replayed).error;
  };
  s_.WriteFile("f", "x");
  ASSERT_EQ(s_.Walk(0, 1, {"f"}), 0u);
  ASSERT_EQ(s_.Walk(0, 2, {"f"}), 0u);
  // The file is gone, the fid not yet; both.
  ASSERT_EQ(unlink(s_.Path("f").c_str()), 0);
  s_.Restart();
  EXPECT_EQ(take_away(1, true), 0u);
  EXPECT_EQ(take_away(1, true), 0u);
  EXPECT_EQ(take_away(1, false), static_cast<uint32_t>(EBADF));
  EXPECT_NE(take_away(2, false), 0u);
}

}  // namespace
}  // namespace crosvm::devices::p9

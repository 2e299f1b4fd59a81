// Every request and its errors, on a real directory.
#include "devices/p9/p9_server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <set>

#include "devices/p9/testing/session.h"
#include "shared_dir/testing/long_name_mount.h"

namespace crosvm::devices::p9 {
namespace {

using testing::Reply;
using testing::Session;

class ServerTest : public ::testing::Test {
 protected:
  std::vector<std::string> List(uint32_t fid, uint32_t count) {
    std::vector<std::string> names;
    uint64_t offset = 0;
    while (true) {
      MessageWriter readdir;
      readdir.U32(fid).U64(offset).U32(count);
      const Reply reply = s_.Call(Type::kReaddir, std::move(readdir));
      if (reply.error != 0) return {"error " + std::to_string(reply.error)};
      MessageReader in = reply.Reader();
      const uint32_t bytes = in.U32();
      EXPECT_LE(bytes, count);
      EXPECT_EQ(bytes, reply.body.size() - 4);
      if (bytes == 0) return names;
      for (size_t left = bytes; left > 0;) {
        in.U8();
        in.U32();
        in.U64();
        offset = in.U64();
        in.U8();
        names.emplace_back(in.String());
        EXPECT_TRUE(in.ok());
        left -= kQidBytes + 8 + 1 + 2 + names.back().size();
      }
    }
  }
  uint32_t Setattr(uint32_t fid, uint32_t valid, uint32_t mode, uint64_t size,
                   uint64_t seconds = 0) {
    MessageWriter setattr;
    setattr.U32(fid).U32(valid).U32(mode).U32(0).U32(0).U64(size);
    setattr.U64(seconds).U64(0).U64(seconds).U64(0);
    return s_.Call(Type::kSetattr, std::move(setattr)).error;
  }
  Reply Lock(uint32_t fid, uint8_t type, uint64_t start, uint64_t length, uint32_t process,
             Type request = Type::kLock) {
    MessageWriter lock;
    lock.U32(fid).U8(type);
    if (request == Type::kLock) lock.U32(0);
    lock.U64(start).U64(length).U32(process).String(client_);
    return s_.Call(request, std::move(lock));
  }
  uint8_t LockStatus(uint32_t fid, uint8_t type, uint64_t start, uint64_t length, uint32_t process,
                     const std::string& client = "guest") {
    client_ = client;
    return Lock(fid, type, start, length, process).Reader().U8();
  }

  std::string client_ = "guest";
  Session s_;
};

TEST_F(ServerTest, VersionIsNegotiated) {
  const auto version = [&](uint32_t size, std::string_view text) {
    MessageWriter out;
    out.U32(size).String(text);
    return s_.Call(Type::kVersion, std::move(out));
  };
  Reply reply = version(8192, kVersionText);
  MessageReader in = reply.Reader();
  EXPECT_EQ(in.U32(), 8192u);
  EXPECT_EQ(in.String(), kVersionText);
  // A new session knows nothing of the last one's fids.
  EXPECT_EQ(s_.Walk(0, 1, {}), static_cast<uint32_t>(EBADF));
  reply = version(UINT32_MAX, kVersionText);
  EXPECT_EQ(reply.Reader().U32(), kMaxMessage);
  EXPECT_NE(version(100, kVersionText).error, 0u);
  reply = version(8192, "9P2000");
  in = reply.Reader();
  in.U32();
  EXPECT_EQ(in.String(), "unknown");
  EXPECT_EQ(s_.Attach(0, 0), static_cast<uint32_t>(EINVAL)) << "there is no session";
}

TEST_F(ServerTest, AttachTakesTheTreeAndNoAuthentication) {
  MessageWriter auth;
  auth.U32(7).String("").String("").U32(0);
  EXPECT_EQ(s_.Call(Type::kAuth, std::move(auth)).error, static_cast<uint32_t>(EOPNOTSUPP));
  MessageWriter tree;
  tree.U32(7).U32(kNoFid).String("").String("/etc").U32(0);
  EXPECT_EQ(s_.Call(Type::kAttach, std::move(tree)).error, static_cast<uint32_t>(ENOENT));
  EXPECT_EQ(s_.Attach(0, 0), static_cast<uint32_t>(EBADF)) << "the fid is taken";
  EXPECT_EQ(s_.Attach(7, 1000), 0u);
}

TEST_F(ServerTest, FilesAreWrittenAndRead) {
  ASSERT_EQ(s_.Walk(0, 1, {}), 0u);
  ASSERT_EQ(s_.Create(1, "f"), 0u);
  EXPECT_EQ(s_.Write(1, "hello world"), 0u);
  EXPECT_EQ(s_.Write(1, "W", 6), 0u);
  EXPECT_EQ(s_.Read(1), "hello World");
  EXPECT_EQ(s_.Read(1, 6, 3), "Wor");
  EXPECT_EQ(s_.Read(1, 100), "");
  EXPECT_EQ(s_.ReadFile("f"), "hello World");
  MessageWriter sync;
  sync.U32(1).U32(1);
  EXPECT_EQ(s_.Call(Type::kFsync, std::move(sync)).error, 0u);
  EXPECT_EQ(s_.Clunk(1), 0u);
  EXPECT_EQ(s_.Clunk(1), static_cast<uint32_t>(EBADF));
  ASSERT_EQ(s_.Walk(0, 1, {"f"}), 0u);
  EXPECT_EQ(s_.Read(1), "error 9") << "not open";
  ASSERT_EQ(s_.Open(1, O_RDONLY), 0u);
  EXPECT_EQ(s_.Open(1, O_RDONLY), static_cast<uint32_t>(EBUSY));
  EXPECT_NE(s_.Write(1, "x"), 0u);
}

TEST_F(ServerTest, AWriteGoesWhereTheClientSaysEvenWhenAppending) {
  s_.WriteFile("log", "12345");
  ASSERT_EQ(s_.Walk(0, 1, {"log"}), 0u);
  ASSERT_EQ(s_.Open(1, O_WRONLY | O_APPEND), 0u);
  EXPECT_EQ(s_.Write(1, "ab", 1), 0u);
  EXPECT_EQ(s_.ReadFile("log"), "1ab45");
}

TEST_F(ServerTest, WalksPartOfTheWay) {
  ASSERT_EQ(s_.MakeDirectory(0, "a"), 0u);
  ASSERT_EQ(s_.Walk(0, 1, {"a"}), 0u);
  MessageWriter walk;
  walk.U32(0).U32(2).U16(3).String("a").String("..").String("none");
  const Reply reply = s_.Call(Type::kWalk, std::move(walk));
  ASSERT_EQ(reply.error, 0u);
  EXPECT_EQ(reply.Reader().U16(), 2u);
  EXPECT_EQ(s_.Clunk(2), static_cast<uint32_t>(EBADF)) << "no fid was made";
  EXPECT_EQ(s_.Walk(0, 2, {"none"}), static_cast<uint32_t>(ENOENT));
  EXPECT_EQ(s_.Walk(0, 1, {}), static_cast<uint32_t>(EBADF)) << "taken";
  EXPECT_EQ(s_.Walk(1, 1, {".."}), 0u) << "in place";
  EXPECT_EQ(s_.Walk(1, 3, {"a"}), 0u);
}

TEST_F(ServerTest, DirectoriesAreListedInPiecesOfAnySize) {
  std::set<std::string> expected = {".", ".."};
  for (int i = 0; i < 300; ++i) {
    const std::string name = "entry-" + std::to_string(i);
    s_.WriteFile(name, "");
    expected.insert(name);
  }
  ASSERT_EQ(s_.Walk(0, 1, {}), 0u);
  EXPECT_EQ(List(1, 1000), std::vector<std::string>{"error 9"}) << "not open";
  ASSERT_EQ(s_.Open(1, O_RDONLY | O_DIRECTORY), 0u);
  for (const uint32_t count : {40u, 300u, 4096u, 500000u}) {
    const std::vector<std::string> names = List(1, count);
    EXPECT_EQ(names.size(), expected.size()) << count;
    EXPECT_EQ(std::set<std::string>(names.begin(), names.end()), expected) << count;
  }
  EXPECT_EQ(List(1, 10), std::vector<std::string>{"error 22"}) << "not even one fits";
}

TEST_F(ServerTest, AttributesAreReadAndSet) {
  s_.WriteFile("f", "12345");
  ASSERT_EQ(s_.Walk(0, 1, {"f"}), 0u);
  EXPECT_EQ(Setattr(1, kSetMode, 0640, 0), 0u);
  EXPECT_EQ(Setattr(1, kSetSize, 0, 3), 0u);
  EXPECT_EQ(Setattr(1, kSetModification | kSetModificationTo, 0, 0, 1234567), 0u);
  struct stat there{};
  ASSERT_EQ(stat(s_.Path("f").c_str(), &there), 0);
  EXPECT_EQ(there.st_mode & 07777, 0640u);
  EXPECT_EQ(there.st_size, 3);
  EXPECT_EQ(there.st_mtime, 1234567);
  const Reply reply = s_.Getattr(1);
  MessageReader in = reply.Reader();
  EXPECT_EQ(in.U64() & kAttrBasic, kAttrBasic);
  EXPECT_EQ(in.U8(), 0u);
  EXPECT_NE(in.U32(), 0u) << "a version of 0 would forbid caching";
  EXPECT_EQ(in.U64(), there.st_ino);
  EXPECT_EQ(in.U32(), there.st_mode);
  EXPECT_EQ(in.U32(), there.st_uid);
  EXPECT_EQ(Setattr(1, kSetModification, 0, 0), 0u);
  ASSERT_EQ(stat(s_.Path("f").c_str(), &there), 0);
  EXPECT_GT(there.st_mtime, 1234567) << "now";
  MessageWriter statfs;
  statfs.U32(1);
  EXPECT_EQ(s_.Call(Type::kStatfs, std::move(statfs)).type, AnswerTo(Type::kStatfs));
}

TEST_F(ServerTest, NamesOfEveryKind) {
  ASSERT_EQ(s_.MakeDirectory(0, "d"), 0u);
  EXPECT_EQ(s_.MakeDirectory(0, "d"), static_cast<uint32_t>(EEXIST));
  EXPECT_EQ(s_.Symlink(0, "l", "../target"), 0u);
  ASSERT_EQ(s_.Walk(0, 1, {"l"}), 0u);
  MessageWriter readlink;
  readlink.U32(1);
  EXPECT_EQ(s_.Call(Type::kReadlink, std::move(readlink)).Reader().String(), "../target");
  EXPECT_EQ(s_.Open(1, O_RDONLY), static_cast<uint32_t>(ELOOP));
  s_.WriteFile("f", "x");
  ASSERT_EQ(s_.Walk(0, 2, {"f"}), 0u);
  ASSERT_EQ(s_.Walk(0, 3, {"d"}), 0u);
  MessageWriter link;
  link.U32(3).U32(2).String("hard");
  EXPECT_EQ(s_.Call(Type::kLink, std::move(link)).error, 0u);
  EXPECT_EQ(s_.ReadFile("d/hard"), "x");
  EXPECT_EQ(s_.Rename(0, "f", 3, "moved"), 0u);
  EXPECT_EQ(s_.ReadFile("d/moved"), "x");
  EXPECT_EQ(s_.Unlink(0, "d", AT_REMOVEDIR), static_cast<uint32_t>(ENOTEMPTY));
  EXPECT_EQ(s_.Unlink(3, "hard"), 0u);
  // By the fid alone: the older forms.
  MessageWriter rename;
  rename.U32(2).U32(0).String("back");
  EXPECT_EQ(s_.Call(Type::kRename, std::move(rename)).error, 0u);
  EXPECT_EQ(s_.ReadFile("back"), "x");
  MessageWriter remove;
  remove.U32(2);
  EXPECT_EQ(s_.Call(Type::kRemove, std::move(remove)).error, 0u);
  EXPECT_EQ(s_.ReadFile("back"), "(none)");
  EXPECT_EQ(s_.Clunk(2), static_cast<uint32_t>(EBADF)) << "remove ends the fid";
  EXPECT_EQ(s_.Unlink(0, "d", AT_REMOVEDIR), 0u);
  MessageWriter fifo;
  fifo.U32(0).String("p").U32(S_IFIFO | 0600).U32(0).U32(0).U32(0);
  EXPECT_EQ(s_.Call(Type::kMknod, std::move(fifo)).error, 0u);
}

TEST_F(ServerTest, AnOpenFileNeedsNoName) {
  s_.WriteFile("f", "still here");
  ASSERT_EQ(s_.Walk(0, 1, {"f"}), 0u);
  ASSERT_EQ(s_.Open(1, O_RDWR), 0u);
  EXPECT_EQ(s_.Unlink(0, "f"), 0u);
  EXPECT_EQ(s_.Read(1), "still here");
  EXPECT_EQ(s_.Getattr(1).error, 0u);
  EXPECT_EQ(Setattr(1, kSetSize, 0, 5), 0u);
  EXPECT_EQ(s_.Read(1), "still");
}

TEST_F(ServerTest, ExtendedAttributes) {
  s_.WriteFile("f", "");
  ASSERT_EQ(s_.Walk(0, 1, {"f"}), 0u);
  const auto set = [&](const std::string& name, std::string_view value, uint32_t flags = 0) {
    EXPECT_EQ(s_.Walk(1, 2, {}), 0u);
    MessageWriter create;
    create.U32(2).String(name).U64(value.size()).U32(flags);
    uint32_t error = s_.Call(Type::kXattrcreate, std::move(create)).error;
    if (error == 0 && !value.empty()) error = s_.Write(2, value);
    const uint32_t closed = s_.Clunk(2);
    return error != 0 ? error : closed;
  };
  const auto get = [&](const std::string& name) {
    MessageWriter walk;
    walk.U32(1).U32(2).String(name);
    const Reply reply = s_.Call(Type::kXattrwalk, std::move(walk));
    if (reply.error != 0) return "error " + std::to_string(reply.error);
    const std::string value = s_.Read(2);
    EXPECT_EQ(value.size(), reply.Reader().U64());
    EXPECT_EQ(s_.Clunk(2), 0u);
    return value;
  };
  EXPECT_EQ(set("user.a", "value"), 0u);
  EXPECT_EQ(get("user.a"), "value");
  EXPECT_EQ(get("user.b"), "error " + std::to_string(ENODATA));
  EXPECT_EQ(get("").find(std::string("user.a\0", 7)) == std::string::npos, false);
  EXPECT_EQ(set("user.a", "x", XATTR_CREATE), static_cast<uint32_t>(EEXIST));
  EXPECT_EQ(set("user.a", "", XATTR_REPLACE), 0u) << "takes it away";
  EXPECT_EQ(get("user.a"), "error " + std::to_string(ENODATA));
  // A promise that is not kept.
  ASSERT_EQ(s_.Walk(1, 2, {}), 0u);
  MessageWriter create;
  create.U32(2).String("user.c").U64(10).U32(0);
  ASSERT_EQ(s_.Call(Type::kXattrcreate, std::move(create)).error, 0u);
  EXPECT_EQ(s_.Write(2, "123456"), 0u);
  EXPECT_EQ(s_.Write(2, "123456", 6), static_cast<uint32_t>(EINVAL)) << "more than announced";
  EXPECT_EQ(s_.Clunk(2), static_cast<uint32_t>(EINVAL));
  MessageWriter huge;
  huge.U32(1).String("user.d").U64(UINT64_MAX).U32(0);
  EXPECT_EQ(s_.Call(Type::kXattrcreate, std::move(huge)).error, static_cast<uint32_t>(E2BIG));
}

TEST_F(ServerTest, TruncatingAnOpenedFileClearsSetIdBitsOfOthersThanRoot) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const auto mode = [&] {
    struct stat status{};
    EXPECT_EQ(stat(s_.Path("f").c_str(), &status), 0);
    return status.st_mode & 07777;
  };
  s_.WriteFile("f", "x");
  s_.WriteFile("other", "x");
  ASSERT_EQ(s_.Attach(1, 0), 0u);
  ASSERT_EQ(s_.Attach(2, 1000), 0u);
  for (const bool create : {false, true}) {
    for (const uint32_t user : {0u, 1u}) {
      // What came before on this thread was of the other one.
      ASSERT_EQ(s_.Walk(2 - user, 3, {"other"}), 0u);
      ASSERT_EQ(s_.Open(3, O_RDWR), 0u);
      ASSERT_EQ(s_.Write(3, "y"), 0u);
      ASSERT_EQ(chmod(s_.Path("f").c_str(), 06777), 0);
      if (create) {
        ASSERT_EQ(s_.Walk(1 + user, 4, {}), 0u);
        EXPECT_EQ(s_.Create(4, "f", O_RDWR | O_TRUNC), 0u);
      } else {
        ASSERT_EQ(s_.Walk(1 + user, 4, {"f"}), 0u);
        EXPECT_EQ(s_.Open(4, O_RDWR | O_TRUNC), 0u);
      }
      EXPECT_EQ(mode(), user == 0 ? 06777u : 0777u) << create;
      ASSERT_EQ(s_.Clunk(3), 0u);
      ASSERT_EQ(s_.Clunk(4), 0u);
    }
  }
}

TEST_F(ServerTest, LocksAmongClients) {
  s_.WriteFile("f", "0123456789");
  for (const uint32_t fid : {1u, 2u}) {
    ASSERT_EQ(s_.Walk(0, fid, {"f"}), 0u);
    EXPECT_EQ(Lock(fid, kLockRead, 0, 0, 1).error, static_cast<uint32_t>(EBADF));
    ASSERT_EQ(s_.Open(fid, O_RDWR), 0u);
  }
  EXPECT_EQ(LockStatus(1, kLockWrite, 0, 10, 1), kLockSuccess);
  EXPECT_EQ(LockStatus(2, kLockRead, 5, 1, 2, "other"), kLockBlocked);
  EXPECT_EQ(LockStatus(2, kLockRead, 10, 0, 2, "other"), kLockSuccess);
  EXPECT_EQ(LockStatus(2, kLockWrite, 0, 4, 2), kLockSuccess) << "the same client knows better";
  client_ = "other";
  const Reply reply = Lock(2, kLockWrite, 5, 100, 2, Type::kGetlock);
  MessageReader in = reply.Reader();
  EXPECT_EQ(in.U8(), kLockWrite);
  EXPECT_EQ(in.U64(), 0u);
  EXPECT_EQ(in.U64(), 10u);
  EXPECT_EQ(in.U32(), 1u);
  EXPECT_EQ(LockStatus(1, kLockNone, 5, 1, 1), kLockSuccess);
  EXPECT_EQ(LockStatus(2, kLockRead, 5, 1, 2, "other"), kLockSuccess);
  EXPECT_EQ(s_.Clunk(1), 0u);
  EXPECT_EQ(LockStatus(2, kLockWrite, 6, 3, 2, "other"), kLockSuccess) << "the clunk let go";
  EXPECT_EQ(LockStatus(2, kLockWrite, UINT64_MAX, 3, 2), 22) << "an Rlerror's EINVAL";
}

TEST_F(ServerTest, ALockIsGivenUpByWhoeverHasTheFid) {
  s_.WriteFile("f", "");
  ASSERT_EQ(s_.Walk(0, 1, {"f"}), 0u);
  ASSERT_EQ(s_.Open(1, O_RDWR), 0u);
  EXPECT_EQ(LockStatus(1, kLockWrite, 0, 0, 1), kLockSuccess);
  EXPECT_EQ(LockStatus(1, kLockNone, 0, 0, 77), kLockSuccess);
  EXPECT_EQ(LockStatus(1, kLockWrite, 0, 0, 2, "other"), kLockSuccess);
}

TEST_F(ServerTest, LocksTowardsTheHost) {
  s_.WriteFile("f", "0123456789");
  ASSERT_EQ(s_.Walk(0, 1, {"f"}), 0u);
  ASSERT_EQ(s_.Open(1, O_RDWR), 0u);
  const sys::UniqueFd host(open(s_.Path("f").c_str(), O_RDWR | O_CLOEXEC));
  const auto host_lock = [&](short type, off_t start, off_t length) {
    struct flock lock{};
    lock.l_type = type;
    lock.l_start = start;
    lock.l_len = length;
    return fcntl(host.get(), F_OFD_SETLK, &lock) == 0;
  };
  // Two readers: the one that goes first must not take the other's lock along.
  ASSERT_EQ(s_.Walk(0, 2, {"f"}), 0u);
  ASSERT_EQ(s_.Open(2, O_RDWR), 0u);
  EXPECT_EQ(LockStatus(1, kLockRead, 0, 6, 1), kLockSuccess);
  EXPECT_EQ(LockStatus(2, kLockRead, 4, 6, 2), kLockSuccess);
  EXPECT_EQ(LockStatus(1, kLockNone, 0, 0, 1), kLockSuccess);
  EXPECT_TRUE(host_lock(F_WRLCK, 0, 4));
  EXPECT_FALSE(host_lock(F_WRLCK, 4, 1));
  EXPECT_EQ(LockStatus(1, kLockRead, 3, 1, 3), kLockBlocked) << "the host's";
  const Reply other = Lock(1, kLockRead, 0, 2, 3, Type::kGetlock);
  EXPECT_EQ(other.Reader().U8(), kLockWrite);
  EXPECT_EQ(s_.Clunk(2), 0u);
  EXPECT_TRUE(host_lock(F_WRLCK, 0, 0));
}

TEST_F(ServerTest, Hostile_NamesThatAreTooLongAreLeftOut) {
  using shared_dir::testing::LongNameMount;
  if (!LongNameMount::Possible()) GTEST_SKIP() << "needs root and /dev/fuse";
  ASSERT_EQ(s_.MakeDirectory(0, "d"), 0u);
  const LongNameMount mount(s_.Path("d"));
  ASSERT_EQ(s_.Walk(0, 1, {"d"}), 0u);
  ASSERT_EQ(s_.Open(1, O_RDONLY | O_DIRECTORY), 0u);
  EXPECT_EQ(List(1, 65536), (std::vector<std::string>{"before", "after"}));
  EXPECT_EQ(List(1, 40), (std::vector<std::string>{"before", "after"}));
  EXPECT_EQ(s_.Clunk(1), 0u);
}

// No fid stands for the directories in between.
TEST_F(ServerTest, AFileStaysWhenOneOfItsNamesGoes) {
  s_.WriteFile("f", "content");
  ASSERT_EQ(link(s_.Path("f").c_str(), s_.Path("g").c_str()), 0);
  ASSERT_EQ(s_.Walk(0, 1, {"f"}), 0u);
  ASSERT_EQ(s_.Walk(0, 2, {"g"}), 0u);
  ASSERT_EQ(s_.Unlink(0, "g"), 0u);
  EXPECT_EQ(s_.Open(1, O_RDONLY), 0u);
  EXPECT_EQ(s_.Read(1), "content");
}

TEST_F(ServerTest, AFileIsReachedOverDirectoriesThatNobodyHolds) {
  ASSERT_EQ(s_.MakeDirectory(0, "d"), 0u);
  ASSERT_EQ(s_.Walk(0, 1, {"d"}), 0u);
  ASSERT_EQ(s_.MakeDirectory(1, "e"), 0u);
  ASSERT_EQ(s_.Clunk(1), 0u);
  s_.WriteFile("d/e/f", "content");
  ASSERT_EQ(s_.Walk(0, 1, {"d", "e", "f"}), 0u);
  EXPECT_EQ(s_.Getattr(1).error, 0u);
  s_.Restart();
  EXPECT_EQ(s_.Getattr(1).error, 0u);
  EXPECT_EQ(s_.Open(1, O_RDONLY), 0u);
  EXPECT_EQ(s_.Read(1), "content");
  ASSERT_EQ(s_.Walk(0, 2, {"d", "e"}), 0u);
  EXPECT_EQ(s_.Walk(2, 3, {"..", ".."}), 0u);
  EXPECT_EQ(s_.Walk(3, 4, {"d"}), 0u);
  // Moved to a directory that nobody holds either.
  ASSERT_EQ(s_.Clunk(3), 0u);
  ASSERT_EQ(s_.Walk(0, 3, {"d", "e"}), 0u);
  s_.WriteFile("g", "moved");
  ASSERT_EQ(s_.Walk(0, 5, {"g"}), 0u);
  ASSERT_EQ(s_.Rename(0, "g", 3, "g"), 0u);
  for (const uint32_t fid : {1u, 2u, 3u, 4u}) ASSERT_EQ(s_.Clunk(fid), 0u);
  EXPECT_EQ(s_.share().nodes().size(), 4u);
  EXPECT_EQ(s_.Getattr(5).error, 0u);
  EXPECT_EQ(s_.Clunk(5), 0u);
  EXPECT_EQ(s_.share().nodes().size(), 1u) << "what was held is given back";
}

TEST(FewOpenFilesServer, CountsFidsAndLockedFilesAndThoseOfAPredecessor) {
  Session s({}, 3);
  s.WriteFile("f", "x");
  const auto kTooMany = static_cast<uint32_t>(ENFILE);
  const auto lock = [&](uint32_t fid, uint8_t type) {
    MessageWriter out;
    out.U32(fid).U8(type).U32(0).U64(0).U64(1).U32(1).String("guest");
    return s.Call(Type::kLock, std::move(out)).error;
  };
  for (uint32_t fid = 1; fid <= 5; ++fid) ASSERT_EQ(s.Walk(0, fid, {"f"}), 0u);
  EXPECT_EQ(s.Open(1, O_RDWR), 0u);
  EXPECT_EQ(s.Open(2, O_RDWR), 0u);
  EXPECT_EQ(lock(1, kLockWrite), 0u);
  EXPECT_EQ(s.Open(3, O_RDWR | O_TRUNC), kTooMany);
  EXPECT_EQ(s.ReadFile("f"), "x") << "refused before it was truncated";
  ASSERT_EQ(s.Walk(0, 6, {}), 0u);
  EXPECT_EQ(s.Create(6, "made"), kTooMany);
  EXPECT_EQ(s.ReadFile("made"), "(none)");
  EXPECT_EQ(lock(1, kLockNone), 0u);
  EXPECT_EQ(s.Open(3, O_RDWR), 0u);
  EXPECT_EQ(lock(1, kLockWrite), static_cast<uint32_t>(ENOLCK));
  s.Restart();
  EXPECT_EQ(s.Open(4, O_RDWR), kTooMany) << "the predecessor's files count";
  for (uint32_t fid = 1; fid <= 3; ++fid) EXPECT_EQ(s.Read(fid), "x");
  EXPECT_EQ(s.Clunk(2), 0u);
  EXPECT_EQ(s.Open(4, O_RDWR), 0u);
  EXPECT_EQ(s.Open(5, O_RDWR), kTooMany);
}

TEST(ReadOnlyServer, RefusesEveryChange) {
  Session s({.read_only = true});
  s.WriteFile("f", "x");
  const auto kReadOnly = static_cast<uint32_t>(EROFS);
  ASSERT_EQ(s.Walk(0, 1, {"f"}), 0u);
  ASSERT_EQ(s.Walk(0, 2, {}), 0u);
  EXPECT_EQ(s.Open(1, O_RDWR), kReadOnly);
  EXPECT_EQ(s.Open(1, O_TRUNC), kReadOnly);
  EXPECT_EQ(s.Create(2, "g"), kReadOnly);
  EXPECT_EQ(s.MakeDirectory(2, "g"), kReadOnly);
  EXPECT_EQ(s.Symlink(2, "g", "x"), kReadOnly);
  EXPECT_EQ(s.Rename(2, "f", 2, "g"), kReadOnly);
  EXPECT_EQ(s.Unlink(2, "f"), kReadOnly);
  EXPECT_EQ(s.Open(1, O_RDONLY), 0u);
  EXPECT_EQ(s.Read(1), "x");
}

}  // namespace
}  // namespace crosvm::devices::p9

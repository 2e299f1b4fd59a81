// What a guest's driver that means harm sends.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "devices/p9/testing/session.h"

namespace crosvm::devices::p9 {
namespace {

using testing::Reply;
using testing::Session;

class HostileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const sys::UniqueFd secret(
        open(s_.Outside("secret").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    ASSERT_TRUE(sys::WriteAll(secret, "secret").has_value());
    s_.WriteFile("f", "x");
  }
  void TearDown() override {
    EXPECT_EQ(*sys::ReadFileToString(s_.Outside("secret")), "secret");
    EXPECT_EQ(s_.Attach(999998, 0), 0u) << "the session goes on";
    EXPECT_EQ(s_.Walk(999998, 999999, {"f"}), 0u);
  }

  Session s_;
};

TEST_F(HostileTest, Hostile_DotDotStaysInTheShare) {
  ASSERT_EQ(s_.Walk(0, 1, {"..", "..", "..", ".."}), 0u);
  EXPECT_EQ(s_.PathOf(1), s_.PathOf(0));
  EXPECT_NE(s_.Walk(1, 2, {"secret"}), 0u);
  EXPECT_NE(s_.Walk(1, 2, {"..", "secret"}), 0u);
  ASSERT_EQ(s_.Open(1, O_RDONLY), 0u);
  // What a listing says of the root's parent is the root.
  MessageWriter readdir;
  readdir.U32(1).U64(0).U32(4096);
  const Reply reply = s_.Call(Type::kReaddir, std::move(readdir));
  MessageReader in = reply.Reader();
  in.U32();
  for (size_t left = reply.body.size() - 4; left > 0;) {
    in.U8();
    in.U32();
    const uint64_t path = in.U64();
    in.U64();
    in.U8();
    const std::string_view name = in.String();
    ASSERT_TRUE(in.ok());
    if (name == "..") {
      EXPECT_EQ(path, s_.PathOf(0));
    }
    left -= kQidBytes + 11 + name.size();
  }
}

TEST_F(HostileTest, Hostile_NamesAreSingleComponents) {
  const std::string long_name(256, 'n');
  const std::string huge_name(60000, 'n');
  const std::string with_nul("f\0g", 3);
  for (const std::string& name :
       {std::string(""), std::string("."), std::string("../secret"), std::string("/etc/passwd"),
        std::string("a/b"), std::string("/"), long_name, huge_name, with_nul}) {
    EXPECT_NE(s_.Walk(0, 1, {name}), 0u) << name.substr(0, 20);
    ASSERT_EQ(s_.Walk(0, 2, {}), 0u);
    EXPECT_NE(s_.Create(2, name), 0u);
    EXPECT_NE(s_.MakeDirectory(2, name), 0u);
    EXPECT_NE(s_.Symlink(2, name, "x"), 0u);
    EXPECT_NE(s_.Unlink(2, name), 0u);
    EXPECT_NE(s_.Unlink(2, name, AT_REMOVEDIR), 0u);
    EXPECT_NE(s_.Rename(2, "f", 2, name), 0u);
    EXPECT_NE(s_.Rename(2, name, 2, "g"), 0u);
    MessageWriter link;
    link.U32(2).U32(2).String(name);
    EXPECT_NE(s_.Call(Type::kLink, std::move(link)).error, 0u);
    EXPECT_EQ(s_.Clunk(2), 0u);
  }
  for (const std::string& name : {std::string(".."), std::string(".")}) {
    EXPECT_NE(s_.Unlink(0, name, AT_REMOVEDIR), 0u);
    EXPECT_NE(s_.MakeDirectory(0, name), 0u);
    EXPECT_NE(s_.Rename(0, "f", 0, name), 0u);
  }
}

TEST_F(HostileTest, Hostile_LinksAreNotFollowed) {
  ASSERT_EQ(s_.Symlink(0, "out", ".."), 0u);
  ASSERT_EQ(s_.Symlink(0, "abs", "/"), 0u);
  ASSERT_EQ(s_.Symlink(0, "file", "../secret"), 0u);
  ASSERT_EQ(s_.Symlink(0, "magic", "/proc/self/root"), 0u);
  for (const char* name : {"out", "abs", "file", "magic"}) {
    EXPECT_NE(s_.Walk(0, 1, {name, "secret"}), 0u) << name;
    ASSERT_EQ(s_.Walk(0, 1, {name}), 0u);
    EXPECT_NE(s_.Open(1, O_RDWR), 0u) << name;
    EXPECT_NE(s_.Create(1, "x"), 0u) << name;
    EXPECT_NE(s_.MakeDirectory(1, "x"), 0u) << name;
    MessageWriter setattr;
    setattr.U32(1).U32(kSetSize).U32(0).U32(0).U32(0).U64(0).U64(0).U64(0).U64(0).U64(0);
    EXPECT_NE(s_.Call(Type::kSetattr, std::move(setattr)).error, 0u) << name;
    EXPECT_EQ(s_.Clunk(1), 0u);
  }
  // The name turns into a link after the fid was made.
  ASSERT_EQ(s_.Walk(0, 1, {"f"}), 0u);
  ASSERT_EQ(unlink(s_.Path("f").c_str()), 0);
  ASSERT_EQ(symlink("../secret", s_.Path("f").c_str()), 0);
  EXPECT_NE(s_.Open(1, O_RDWR | O_TRUNC), 0u);
  ASSERT_EQ(unlink(s_.Path("f").c_str()), 0);
  s_.WriteFile("f", "x");
}

TEST_F(HostileTest, Hostile_DirectoriesThatBecomeLinks) {
  ASSERT_EQ(s_.MakeDirectory(0, "d"), 0u);
  ASSERT_EQ(s_.Walk(0, 1, {"d"}), 0u);
  ASSERT_EQ(rmdir(s_.Path("d").c_str()), 0);
  ASSERT_EQ(symlink("..", s_.Path("d").c_str()), 0);
  EXPECT_NE(s_.Walk(1, 2, {"secret"}), 0u);
  EXPECT_NE(s_.Walk(0, 2, {"d", "secret"}), 0u);
  EXPECT_NE(s_.MakeDirectory(1, "made"), 0u);
  struct stat status{};
  EXPECT_NE(stat(s_.Outside("made").c_str(), &status), 0);
}

TEST_F(HostileTest, Hostile_TheRootStays) {
  EXPECT_NE(s_.Rename(0, "..", 0, "x"), 0u);
  MessageWriter rename;
  rename.U32(0).U32(0).String("x");
  EXPECT_EQ(s_.Call(Type::kRename, std::move(rename)).error, static_cast<uint32_t>(EBUSY));
  ASSERT_EQ(s_.Attach(5, 0), 0u);
  MessageWriter remove;
  remove.U32(5);
  EXPECT_EQ(s_.Call(Type::kRemove, std::move(remove)).error, static_cast<uint32_t>(EBUSY));
}

TEST_F(HostileTest, Hostile_DeviceNodes) {
  for (const uint32_t type : {uint32_t{S_IFCHR}, uint32_t{S_IFBLK}, uint32_t{S_IFDIR}, 0u}) {
    MessageWriter node;
    node.U32(0).String("node").U32(type | 0666).U32(1).U32(3).U32(0);
    EXPECT_NE(s_.Call(Type::kMknod, std::move(node)).error, 0u) << type;
  }
}

TEST_F(HostileTest, Hostile_FidsThatAreNot) {
  for (const uint32_t fid : {1u, 0x7fffffffu, 0xfffffffeu, kNoFid}) {
    EXPECT_EQ(s_.Read(fid), "error 9");
    EXPECT_NE(s_.Write(fid, "x"), 0u);
    EXPECT_NE(s_.Open(fid, O_RDONLY), 0u);
    EXPECT_NE(s_.Clunk(fid), 0u);
    EXPECT_NE(s_.Walk(fid, 2, {}), 0u);
  }
  EXPECT_NE(s_.Walk(0, kNoFid, {}), 0u);
}

// Every request cut off anywhere, and with a byte of it changed: an answer, no more.
TEST_F(HostileTest, Hostile_TornMessages) {
  std::vector<std::vector<uint8_t>> bodies;
  for (int type = 0; type < 128; ++type) {
    MessageWriter out;
    out.U32(0).String("f").U32(0).U64(1).String("g").U32(9).U64(77);
    bodies.push_back(std::move(out).Finish(static_cast<uint8_t>(type), 1));
  }
  for (const std::vector<uint8_t>& whole : bodies) {
    // Neither ends the session, of which the next ones would not come through.
    if (whole[4] == static_cast<uint8_t>(Type::kVersion) ||
        whole[4] == static_cast<uint8_t>(Type::kClunk) ||
        whole[4] == static_cast<uint8_t>(Type::kRemove)) {
      continue;
    }
    for (size_t length = 0; length <= whole.size(); ++length) {
      s_.Send(std::span(whole).first(length));
    }
    for (size_t at = 4; at < whole.size(); ++at) {
      std::vector<uint8_t> changed = whole;
      changed[at] ^= 0xff;
      if (at != 4) s_.Send(changed);
    }
  }
}

TEST_F(HostileTest, Hostile_AnswersThatHaveNoRoom) {
  for (uint64_t limit = 0; limit < 200; ++limit) {
    MessageWriter getattr;
    getattr.U32(0).U64(UINT64_MAX);
    const Reply reply = s_.Call(Type::kGetattr, std::move(getattr), {}, false, limit);
    if (limit < kErrorBytes) {
      EXPECT_EQ(reply.type, 0);
    } else {
      EXPECT_EQ(reply.error != 0, limit < 160) << limit;
    }
  }
}

TEST_F(HostileTest, Hostile_OffsetsAndCounts) {
  ASSERT_EQ(s_.Walk(0, 1, {"f"}), 0u);
  ASSERT_EQ(s_.Open(1, O_RDWR), 0u);
  for (const uint64_t offset : {uint64_t{INT64_MAX}, uint64_t{1} << 63, UINT64_MAX}) {
    EXPECT_NE(s_.Write(1, "x", offset), 0u);
    EXPECT_TRUE(s_.Read(1, offset).empty() || s_.Read(1, offset).starts_with("error"));
  }
  EXPECT_EQ(s_.Read(1, 0, UINT32_MAX), "x");
  // More announced than sent.
  MessageWriter write;
  write.U32(1).U64(0).U32(1 << 30);
  EXPECT_EQ(s_.Call(Type::kWrite, std::move(write), "abc").error, static_cast<uint32_t>(EINVAL));
  EXPECT_EQ(s_.ReadFile("f"), "x");
}

TEST_F(HostileTest, Hostile_LocksOfAClientWithALongName) {
  ASSERT_EQ(s_.Walk(0, 1, {"f"}), 0u);
  ASSERT_EQ(s_.Open(1, O_RDWR), 0u);
  for (const Type type : {Type::kLock, Type::kGetlock}) {
    for (const size_t length : {255u, 256u, 60000u}) {
      MessageWriter lock;
      lock.U32(1).U8(kLockRead);
      if (type == Type::kLock) lock.U32(0);
      lock.U64(0).U64(1).U32(1).String(std::string(length, 'c'));
      EXPECT_EQ(s_.Call(type, std::move(lock)).error,
                length <= 255 ? 0u : static_cast<uint32_t>(EINVAL));
    }
  }
}

TEST_F(HostileTest, Hostile_AttributesThatAreNeverFinished) {
  uint32_t error = 0;
  uint32_t fid = 1;
  for (; fid < 10000 && error == 0; ++fid) {
    ASSERT_EQ(s_.Walk(0, fid, {"f"}), 0u);
    MessageWriter create;
    create.U32(fid).String("user.x").U64(65536).U32(0);
    error = s_.Call(Type::kXattrcreate, std::move(create)).error;
  }
  EXPECT_EQ(error, static_cast<uint32_t>(ENOMEM));
  EXPECT_EQ(fid - 2, Xattr::kMaxBytes / (65536 + strlen("user.x") + sizeof(Xattr)));
  EXPECT_NE(s_.Clunk(1), 0u) << "nothing of it was written";
  MessageWriter create;
  create.U32(fid - 1).String("user.x").U64(65536).U32(0);
  EXPECT_EQ(s_.Call(Type::kXattrcreate, std::move(create)).error, 0u) << "one went";
}

TEST_F(HostileTest, Hostile_AttributesThatHoldNothing) {
  // A name, and what an attribute is kept in, cost as well: in the end nothing fits.
  const std::string name(255, 'n');
  uint32_t fid = 1;
  for (const uint64_t size : {65536, 4096, 256, 0}) {
    uint32_t error = 0;
    for (; fid < 2000 && error == 0; ++fid) {
      ASSERT_EQ(s_.Walk(0, fid, {"f"}), 0u);
      MessageWriter create;
      create.U32(fid).String(name).U64(size).U32(0);
      error = s_.Call(Type::kXattrcreate, std::move(create)).error;
    }
    EXPECT_EQ(error, static_cast<uint32_t>(ENOMEM)) << size;
  }
  for (uint32_t error = 0; fid < 2000 && error == 0; ++fid) {
    MessageWriter walk;
    walk.U32(0).U32(fid).String("");
    error = s_.Call(Type::kXattrwalk, std::move(walk)).error;
  }
  EXPECT_LT(fid, 2000u);
  const auto list = s_.share().ListXattr(shared_dir::kRootNode);
  EXPECT_EQ(list->capacity(), list->size());
}

TEST_F(HostileTest, Hostile_OneFidOpenedOnManyThreads) {
  for (int round = 0; round < 20; ++round) {
    ASSERT_EQ(s_.Walk(0, 1, {"f"}), 0u);
    std::vector<std::thread> threads;
    std::atomic<int> opened = 0;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        MessageWriter lopen;
        lopen.U32(1).U32(O_RDWR);
        const std::vector<uint8_t> bytes =
            std::move(lopen).Finish(static_cast<uint8_t>(Type::kLopen), 1);
        const Answer answer = s_.server().Handle({.bytes = bytes, .answer_limit = 100});
        if (answer.bytes.at(4) == AnswerTo(Type::kLopen)) ++opened;
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(opened, 1);
    EXPECT_EQ(s_.Clunk(1), 0u);
  }
}

TEST_F(HostileTest, Hostile_StateOfATakenOverPredecessor) {
  constexpr size_t kHeader = 16 + 8 * FidTable::kMaxDevices;
  constexpr size_t kRow = 32;
  sys::UniqueFd garbage = *sys::CreateSealedMemfd("fids", FidTable::StateBytes());
  std::vector<uint8_t> bytes(1 << 16);
  const auto put = [&](size_t at, auto value) { memcpy(&bytes.at(at), &value, sizeof(value)); };
  for (uint32_t seed = 1; seed < 40; ++seed) {
    uint32_t value = seed;
    for (uint8_t& byte : bytes) {
      value = value * 1664525 + 1013904223;
      byte = static_cast<uint8_t>(value >> ((seed % 3) * 8));
    }
    // Garbage alone counts as no fid. These rows do, with garbage in what is left: each number is
    // taken many times, first by a node that is not there or by one that is.
    const shared_dir::NodeId file = s_.share().Lookup(shared_dir::kRootNode, "f")->node;
    uint32_t rows = 0;
    for (size_t at = kHeader; at + kRow <= bytes.size(); at += kRow, ++rows) {
      const uint64_t nodes[] = {rows, shared_dir::kRootNode, file};
      put(at, nodes[rows % 3]);
      put(at + 16, rows % 50);
      put(at + 28, uint32_t{1});
    }
    put(0, kMaxMessage);
    if (seed % 2 != 0) put(4, rows);
    ASSERT_TRUE(sys::PwriteAll(garbage, bytes, 0).has_value());
    const std::unique_ptr<Server> server = s_.MakeServer(garbage);
    EXPECT_EQ(server->fids(), 50u);
    for (uint32_t number = 0; number < 50; ++number) {
      MessageWriter read;
      read.U32(number).U64(0).U32(100);
      char room[100];
      const iovec piece{room, sizeof(room)};
      const std::vector<uint8_t> message =
          std::move(read).Finish(static_cast<uint8_t>(Type::kRead), 1);
      const Answer answer =
          server->Handle({.bytes = message, .room = {&piece, 1}, .answer_limit = 200});
      MessageReader in(answer.bytes);
      in.U32();
      const bool failed = in.U8() == AnswerTo(Type::kLerror);
      in.U16();
      EXPECT_FALSE(failed && in.U32() == ESTALE) << number;
    }
  }
}

}  // namespace
}  // namespace crosvm::devices::p9

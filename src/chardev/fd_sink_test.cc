#include "chardev/fd_sink.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "event/test_loop.h"

namespace crosvm::chardev {
namespace {

struct Ends {
  sys::UniqueFd read;
  sys::UniqueFd write;
};
Ends MakePipe() {
  int fds[2];
  EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
  return {sys::UniqueFd(fds[0]), sys::UniqueFd(fds[1])};
}
Ends MakeSockets() {
  int fds[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  return {sys::UniqueFd(fds[0]), sys::UniqueFd(fds[1])};
}
std::span<const uint8_t> Bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
std::string ReadSome(const sys::UniqueFd& fd) {
  std::string text(1 << 17, '\0');
  const ssize_t got = read(fd.get(), text.data(), text.size());
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return text;
}

class FdSinkTest : public ::testing::Test {
 protected:
  FdSinkTest() { signal(SIGPIPE, SIG_IGN); }
  event::TestLoop loop;
};

TEST_F(FdSinkTest, WritesGoOutOnTheLoop) {
  Ends ends = MakePipe();
  auto sink = FdSink::Create(loop, std::move(ends.write), "test");
  ASSERT_TRUE(sink.has_value());
  EXPECT_EQ((*sink)->Write(Bytes("hello ")), 6u);
  EXPECT_EQ((*sink)->Write(Bytes("world")), 5u);
  loop.RunUntilIdle();
  EXPECT_EQ(ReadSome(ends.read), "hello world");
}

TEST_F(FdSinkTest, TheSharedDescriptionStaysBlocking) {
  Ends ends = MakePipe();
  sys::UniqueFd shared = std::move(*ends.write.Dup());
  auto sink = FdSink::Create(loop, std::move(ends.write), "test");
  ASSERT_TRUE(sink.has_value());
  EXPECT_EQ(fcntl(shared.get(), F_GETFL) & O_NONBLOCK, 0);
}

void StallAndGoOn(event::TestLoop& loop, Ends ends) {
  auto sink = FdSink::Create(loop, std::move(ends.write), "test", 4096);
  ASSERT_TRUE(sink.has_value());
  int room = 0;
  (*sink)->OnRoom([&] { ++room; });
  const std::string chunk(1024, 'x');
  size_t taken = 0;
  for (;;) {
    const size_t got = (*sink)->Write(Bytes(chunk));
    taken += got;
    loop.RunUntilIdle();
    if (got == 0) break;
    ASSERT_LT(taken, size_t{1} << 22);
  }
  const int room_before = room;
  size_t received = 0;
  while (received < taken) {
    received += ReadSome(ends.read).size();
    loop.RunUntilIdle();
  }
  EXPECT_EQ(received, taken);
  EXPECT_GT(room, room_before);
  EXPECT_EQ((*sink)->Write(Bytes(chunk)), chunk.size());
}

TEST_F(FdSinkTest, AFullPipeHoldsTheWriterAndCallsItBack) {
  StallAndGoOn(loop, MakePipe());
}

TEST_F(FdSinkTest, AFullSocketHoldsTheWriterAndCallsItBack) {
  StallAndGoOn(loop, MakeSockets());
}

TEST_F(FdSinkTest, AClosedReaderSwallowsEverything) {
  Ends ends = MakePipe();
  auto sink = FdSink::Create(loop, std::move(ends.write), "test", 16);
  ASSERT_TRUE(sink.has_value());
  ends.read.Reset();
  for (int i = 0; i < 10; ++i) {
    (*sink)->Write(Bytes("0123456789"));
    loop.RunUntilIdle();
  }
  EXPECT_EQ((*sink)->Write(Bytes(std::string(1000, 'x'))), 1000u);
}

TEST_F(FdSinkTest, AFileTakesEverything) {
  char path[] = "/tmp/crosvm-fd-sink-XXXXXX";
  sys::UniqueFd file(mkostemp(path, O_CLOEXEC));
  sys::UniqueFd reader(open(path, O_RDONLY | O_CLOEXEC));
  unlink(path);
  auto sink = FdSink::Create(loop, std::move(file), "test");
  ASSERT_TRUE(sink.has_value());
  const std::string text(50'000, 'y');
  (*sink)->Write(Bytes(text));
  (*sink)->Finish(std::chrono::milliseconds(0));
  EXPECT_EQ(ReadSome(reader), text);
  loop.RunUntilIdle();
}

TEST_F(FdSinkTest, NothingHappensAfterItsEnd) {
  Ends ends = MakePipe();
  {
    auto sink = FdSink::Create(loop, std::move(ends.write), "test");
    (*sink)->Write(Bytes("lost"));
  }
  loop.RunUntilIdle();
  EXPECT_EQ(ReadSome(ends.read), "");
}

TEST_F(FdSinkTest, SeveralThreadsWrite) {
  Ends ends = MakePipe();
  auto sink = FdSink::Create(loop, std::move(ends.write), "test");
  std::vector<std::thread> writers;
  for (int i = 0; i < 3; ++i) {
    writers.emplace_back([&] {
      for (int n = 0; n < 1000; ++n) (*sink)->Write(Bytes("abc"));
    });
  }
  for (std::thread& writer : writers) writer.join();
  loop.RunUntilIdle();
  EXPECT_EQ(ReadSome(ends.read).size(), 9000u);
}

}  // namespace
}  // namespace crosvm::chardev

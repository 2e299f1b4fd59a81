#include "chardev/open.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "event/test_loop.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace crosvm::chardev {
namespace {

class OpenTest : public ::testing::Test {
 protected:
  OpenTest() {
    char pattern[] = "/tmp/crosvm-open-XXXXXX";
    folder = mkdtemp(pattern);
    path = folder + "/f";
  }
  ~OpenTest() override {
    unlink(path.c_str());
    rmdir(folder.c_str());
  }
  CharStreams Make(const CharOptions& options) {
    auto files = OpenCharFiles(options);
    EXPECT_TRUE(files.has_value());
    auto streams = MakeCharStreams(loop, std::move(*files));
    EXPECT_TRUE(streams.has_value());
    return std::move(*streams);
  }
  void Write(CharStreams& streams, const std::string& text) {
    streams.sink->Write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
    loop.RunUntilIdle();
  }

  event::TestLoop loop;
  std::string folder;
  std::string path;
};

TEST_F(OpenTest, AFileIsAppendedTo) {
  for (int i = 0; i < 2; ++i) {
    CharStreams streams = Make({.type = CharType::kFile, .path = path, .name = "serial 1"});
    EXPECT_EQ(streams.source, nullptr);
    Write(streams, "line\n");
  }
  EXPECT_EQ(*sys::ReadFileToString(path), "line\nline\n");
}

TEST_F(OpenTest, ASinkSwallows) {
  CharStreams streams = Make({.type = CharType::kSink, .name = "serial 2"});
  EXPECT_EQ(streams.source, nullptr);
  Write(streams, "nothing");
}

TEST_F(OpenTest, AStreamSocketIsBothDirections) {
  auto listener = sys::UnixListener::Bind(path, sys::SocketType::kStream);
  ASSERT_TRUE(listener.has_value());
  CharStreams streams = Make({.type = CharType::kUnixStream, .path = path, .name = "serial 1"});
  const auto peer = listener->Accept();
  ASSERT_TRUE(peer.has_value());
  Write(streams, "out");
  uint8_t buffer[8] = {};
  EXPECT_EQ(peer->Receive(buffer)->bytes, 3u);
  ASSERT_NE(streams.source, nullptr);
  std::string got;
  streams.source->Start([&](std::span<const uint8_t> data) {
    got.append(data.begin(), data.end());
    return data.size();
  });
  const uint8_t in[] = {'i', 'n'};
  ASSERT_TRUE(peer->SendAll(in).has_value());
  loop.RunUntilIdle();
  EXPECT_EQ(got, "in");
}

TEST_F(OpenTest, AFifoIsReadWhoeverComesToWrite) {
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  CharStreams streams = Make({.type = CharType::kSink, .input_path = path, .name = "serial 2"});
  ASSERT_NE(streams.source, nullptr);
  std::string got;
  streams.source->Start([&](std::span<const uint8_t> data) {
    got.append(data.begin(), data.end());
    return data.size();
  });
  loop.RunUntilIdle();  // nobody writes yet, which is not the end
  for (const std::string text : {"one", "two"}) {
    const sys::UniqueFd writer(open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
    ASSERT_EQ(write(writer.get(), text.data(), text.size()), 3);
    loop.RunUntilIdle();
  }
  EXPECT_EQ(got, "onetwo");
}

TEST_F(OpenTest, WrongOptionsAreRefusedNamingThePort) {
  const CharOptions wrong[] = {
      {.type = CharType::kFile, .name = "serial 3"},
      {.type = CharType::kUnixDatagram, .name = "serial 3"},
      {.type = CharType::kUnixStream, .name = "serial 3"},
      {.type = CharType::kSink, .use_stdin = true, .input_path = "/dev/null", .name = "serial 3"},
      {.type = CharType::kUnixStream, .path = path, .use_stdin = true, .name = "serial 3"},
      {.type = CharType::kFile, .path = "/no/such/folder/file", .name = "serial 3"},
      {.type = CharType::kSink, .input_path = "/no/such/file", .name = "serial 3"},
      {.type = CharType::kUnixDatagram, .path = path, .name = "serial 3", .connect = true},
  };
  for (const CharOptions& options : wrong) {
    const auto files = OpenCharFiles(options);
    ASSERT_FALSE(files.has_value());
    EXPECT_NE(files.error().ToString().find("serial 3"), std::string::npos);
  }
}

}  // namespace
}  // namespace crosvm::chardev

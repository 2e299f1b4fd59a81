#include "chardev/datagram_sink.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "event/test_loop.h"
#include "sys/socket.h"

namespace crosvm::chardev {
namespace {

class DatagramSinkTest : public ::testing::Test {
 protected:
  DatagramSinkTest() {
    char pattern[] = "/tmp/crosvm-datagram-XXXXXX";
    folder = mkdtemp(pattern);
    path = folder + "/log";
  }
  ~DatagramSinkTest() override {
    unlink(path.c_str());
    rmdir(folder.c_str());
  }
  void Bind() {
    receiver = sys::UniqueFd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    ASSERT_EQ(bind(receiver.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  void Create(DatagramOptions options = {}) {
    options.path = path;
    options.name = "test";
    auto made = DatagramSink::Create(loop, std::move(options));
    ASSERT_TRUE(made.has_value()) << made.error().ToString();
    sink = std::move(*made);
  }
  void Write(const std::string& text) {
    EXPECT_EQ(sink->Write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}),
              text.size());
    loop.RunUntilIdle();
  }
  std::string Receive() {
    std::string text(4096, '\0');
    const ssize_t got = recv(receiver.get(), text.data(), text.size(), 0);
    text.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return text;
  }

  // A line arrives, then the receiver goes.
  void SendThenLoseReceiver() {
    Write("one\n");
    EXPECT_EQ(Receive(), "one\n");
    receiver.Reset();
    unlink(path.c_str());
  }
  void CreateConnected() {
    sys::UnixSocket socket = *sys::UnixSocket::Connect(path, sys::SocketType::kDatagram);
    sink = DatagramSink::Over(loop, socket.TakeFd(), {.path = path, .name = "test"});
  }

  event::TestLoop loop;
  std::string folder;
  std::string path;
  sys::UniqueFd receiver;
  std::unique_ptr<DatagramSink> sink;
};

TEST_F(DatagramSinkTest, AConnectedOneLosesItsReceiverForGood) {
  Bind();
  CreateConnected();
  SendThenLoseReceiver();
  Write("lost\n");
  Bind();
  Write("lost, too\n");
  loop.AdvanceTime(DatagramSink::kRetryInterval * 3);
  EXPECT_EQ(Receive(), "");
}

TEST_F(DatagramSinkTest, ALineIsADatagram) {
  Bind();
  Create();
  Write("one\ntwo\nthr");
  EXPECT_EQ(Receive(), "one\n");
  EXPECT_EQ(Receive(), "two\n");
  EXPECT_EQ(Receive(), "");
  Write("ee\n");
  EXPECT_EQ(Receive(), "three\n");
}

TEST_F(DatagramSinkTest, ALongLineIsSplit) {
  Bind();
  Create();
  Write(std::string(1500, 'x') + "\n");
  EXPECT_EQ(Receive(), std::string(1024, 'x'));
  EXPECT_EQ(Receive(), std::string(476, 'x') + "\n");
}

TEST_F(DatagramSinkTest, LinesWaitForTheReceiver) {
  Create();
  Write("early\n");
  loop.AdvanceTime(std::chrono::seconds(1));
  Bind();
  loop.AdvanceTime(DatagramSink::kRetryInterval);
  EXPECT_EQ(Receive(), "early\n");
}

TEST_F(DatagramSinkTest, TheReceiverMayComeBack) {
  Bind();
  Create();
  SendThenLoseReceiver();
  Write("two\n");
  Bind();
  loop.AdvanceTime(DatagramSink::kRetryInterval);
  EXPECT_EQ(Receive(), "two\n");
}

TEST_F(DatagramSinkTest, Hostile_NoReceiverKeepsABoundedNumberOfLines) {
  Create();
  for (int i = 0; i < 10'000; ++i) Write("line\n");
  Bind();
  int received = 0;
  for (int round = 0; round < 100; ++round) {
    loop.AdvanceTime(DatagramSink::kRetryInterval);
    while (!Receive().empty()) ++received;
  }
  EXPECT_EQ(received, static_cast<int>(DatagramSink::kMaxQueuedLines));
}

TEST_F(DatagramSinkTest, AnUnfinishedLineGoesOutAtTheEnd) {
  Bind();
  Create();
  Write("rest");
  sink->Finish(std::chrono::milliseconds(0));
  EXPECT_EQ(Receive(), "rest");
}

TEST_F(DatagramSinkTest, APrefixAndNoNewlineForSyslog) {
  Bind();
  DatagramOptions options = SyslogDatagram("crosvm", "test");
  EXPECT_EQ(options.path, "/dev/log");
  Create(std::move(options));
  Write("hello\n");
  const std::string got = Receive();
  EXPECT_EQ(got.substr(0, 4), "<14>");
  EXPECT_EQ(got.substr(got.size() - 14), " crosvm: hello");
}

TEST_F(DatagramSinkTest, APathLongerThanAnAddressWorks) {
  const std::string deep = folder + "/" + std::string(100, 'd');
  ASSERT_EQ(mkdir(deep.c_str(), 0700), 0);
  path = "log-elsewhere";
  // The receiver binds relative to its folder; the sink is given the whole path.
  char before[4096];
  ASSERT_NE(getcwd(before, sizeof(before)), nullptr);
  ASSERT_EQ(chdir(deep.c_str()), 0);
  Bind();
  ASSERT_EQ(chdir(before), 0);
  path = deep + "/log-elsewhere";
  Create();
  Write("far\n");
  EXPECT_EQ(Receive(), "far\n");
  unlink(path.c_str());
  rmdir(deep.c_str());
}

TEST_F(DatagramSinkTest, AMissingFolderIsAnError) {
  const auto made = DatagramSink::Create(loop, {.path = "/no/such/folder/log", .name = "test"});
  ASSERT_FALSE(made.has_value());
  EXPECT_EQ(made.error().kind(), ErrorKind::kNotFound);
  EXPECT_FALSE(DatagramSink::Create(loop, {.path = "/tmp/", .name = "test"}).has_value());
}

}  // namespace
}  // namespace crosvm::chardev

#include "sys/socket.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <cstring>
#include <thread>

#include "sys/event_fd.h"
#include "sys/file.h"

namespace crosvm::sys {
namespace {

std::vector<uint8_t> Bytes(std::string_view text) {
  return {text.begin(), text.end()};
}

size_t OpenDescriptors() {
  DIR* const folder = opendir("/proc/self/fd");
  size_t count = 0;
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

// Sends `count` descriptors without any of our limits, as a hostile peer would.
void SendRaw(const UnixSocket& socket, std::string_view text, size_t count) {
  const UniqueFd null = Open("/dev/null", O_RDONLY).value();
  std::vector<int> fds(count, null.get());
  std::vector<uint64_t> control(CMSG_SPACE(sizeof(int) * count) / 8 + 1);
  std::string data(text);
  iovec part{data.data(), data.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int) * count);
  memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * count);
  ASSERT_EQ(sendmsg(socket.fd().get(), &message, MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
}

struct TempFolder {
  TempFolder() {
    char name[] = "/tmp/crosvm-sys-XXXXXX";
    path = mkdtemp(name);
  }
  ~TempFolder() {
    const int result = rmdir(path.c_str());
    EXPECT_EQ(result, 0) << path << " is not empty";
  }
  std::string path;
};

class SocketPairTest : public ::testing::TestWithParam<SocketType> {
 protected:
  void SetUp() override {
    auto pair = UnixSocket::Pair(GetParam()).value();
    a_ = std::move(pair.first);
    b_ = std::move(pair.second);
  }
  UnixSocket a_;
  UnixSocket b_;
  std::array<uint8_t, 64> buffer_{};
};
INSTANTIATE_TEST_SUITE_P(Types, SocketPairTest,
                         ::testing::Values(SocketType::kStream, SocketType::kSeqPacket));

TEST_P(SocketPairTest, CarriesBytesAndDescriptors) {
  const EventFd event = EventFd::Create().value();
  const BorrowedFd fds[] = {event.fd(), a_.fd()};
  EXPECT_EQ(a_.Send(Bytes("hello"), fds).value(), 5U);
  const Received received = b_.Receive(buffer_).value();
  EXPECT_EQ(std::string(buffer_.begin(), buffer_.begin() + received.bytes), "hello");
  ASSERT_EQ(received.fds.size(), 2U);
  for (const UniqueFd& fd : received.fds) EXPECT_EQ(fcntl(fd.get(), F_GETFD), FD_CLOEXEC);
  event.Signal();
  uint64_t count = 0;
  EXPECT_EQ(read(received.fds[0].get(), &count, sizeof(count)), 8);
}

TEST_P(SocketPairTest, MostDescriptorsFit) {
  const std::vector<BorrowedFd> fds(kMaxFdsPerMessage, BorrowedFd(a_.fd()));
  ASSERT_TRUE(a_.SendAll(Bytes("x"), fds).has_value());
  EXPECT_EQ(b_.Receive(buffer_).value().fds.size(), kMaxFdsPerMessage);
  const std::vector<BorrowedFd> more(kMaxFdsPerMessage + 1, BorrowedFd(a_.fd()));
  EXPECT_EQ(a_.Send(Bytes("x"), more).error().kind(), ErrorKind::kInvalidArgument);
}

TEST_P(SocketPairTest, PeerHasClosed) {
  b_ = UnixSocket();
  EXPECT_EQ(a_.Receive(buffer_).value().bytes, 0U);
  const auto sent = a_.Send(Bytes("x"));  // and no SIGPIPE
  ASSERT_FALSE(sent.has_value());
  EXPECT_EQ(sent.error().kind(), ErrorKind::kDisconnected);
}

TEST_P(SocketPairTest, NothingThere) {
  ASSERT_TRUE(SetNonBlocking(b_.fd(), true).has_value());
  EXPECT_EQ(b_.Receive(buffer_).error().kind(), ErrorKind::kBusy);
  ASSERT_TRUE(SetNonBlocking(b_.fd(), false).has_value());
  ASSERT_TRUE(b_.SetTimeouts(std::chrono::milliseconds(1)).has_value());
  EXPECT_EQ(b_.Receive(buffer_).error().kind(), ErrorKind::kBusy);
}

TEST_P(SocketPairTest, FullSocketIsBusy) {
  ASSERT_TRUE(SetNonBlocking(a_.fd(), true).has_value());
  const std::vector<uint8_t> block(1000);
  Result<size_t> sent = size_t{0};
  while (sent.has_value()) sent = a_.Send(block);
  EXPECT_EQ(sent.error().kind(), ErrorKind::kBusy);
}

TEST_P(SocketPairTest, EmptyMessagesAreRefused) {
  const BorrowedFd fds[] = {a_.fd()};
  EXPECT_FALSE(a_.Send({}).has_value());
  EXPECT_FALSE(a_.SendAll({}, fds).has_value());
  EXPECT_TRUE(a_.SendAll({}).has_value());
  EXPECT_FALSE(b_.Receive({}).has_value());
}

TEST_P(SocketPairTest, Hostile_TooManyDescriptorsLeakNothing) {
  const size_t before = OpenDescriptors();
  for (const size_t count : {kMaxFdsPerMessage + 1, size_t{253}}) {
    SendRaw(a_, "x", count);
    const auto received = b_.Receive(buffer_);
    ASSERT_FALSE(received.has_value());
    EXPECT_EQ(received.error().kind(), ErrorKind::kProtocol);
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_P(SocketPairTest, Hostile_DescriptorsBeyondOurLimitLeakNothing) {
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  SendRaw(a_, "x", 10);
  const size_t before = OpenDescriptors();
  // The lowest free number plus three: the kernel can install only some of the ten.
  const UniqueFd lowest = a_.fd().Dup().value();
  const rlimit tight{static_cast<rlim_t>(lowest.get()) + 3, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
  const auto received = b_.Receive(buffer_);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  ASSERT_FALSE(received.has_value());
  EXPECT_EQ(received.error().kind(), ErrorKind::kProtocol);
  EXPECT_EQ(OpenDescriptors(), before + 1);  // `lowest`
}

TEST(SeqPacketTest, Hostile_LongPacketIsRefusedWhole) {
  auto [a, b] = UnixSocket::Pair(SocketType::kSeqPacket).value();
  const size_t before = OpenDescriptors();
  SendRaw(a, std::string(65, 'x'), 3);
  ASSERT_TRUE(a.SendAll(Bytes("next")).has_value());
  std::array<uint8_t, 64> buffer;
  EXPECT_EQ(b.Receive(buffer).error().kind(), ErrorKind::kProtocol);
  EXPECT_EQ(OpenDescriptors(), before);
  EXPECT_EQ(b.Receive(buffer).value().bytes, 4U);
}

TEST(SeqPacketTest, APeekedMessageStays) {
  const auto [here, there] = UnixSocket::Pair(SocketType::kSeqPacket).value();
  ASSERT_TRUE(here.Send(Bytes("hello"), {{here.fd()}}).has_value());
  std::array<uint8_t, 8> buffer;
  for (int i = 0; i < 2; ++i) {
    const Received peeked = there.Peek(buffer).value();
    EXPECT_EQ(peeked.bytes, 5U);
    EXPECT_EQ(peeked.fds.size(), 1U);
  }
  const size_t before = OpenDescriptors();
  EXPECT_TRUE(there.Discard().has_value());
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST(SeqPacketTest, EveryMessageCanBePeekedAt) {
  const auto [here, there] = UnixSocket::Pair(SocketType::kSeqPacket).value();
  for (const char* text : {"one", "two", "three"}) {
    ASSERT_TRUE(here.Send(Bytes(text)).has_value());
  }
  std::array<uint8_t, 8> buffer;
  ASSERT_TRUE(there.SetPeekOffset(0).has_value());
  for (const size_t bytes : {3, 3, 5}) EXPECT_EQ(there.Peek(buffer)->bytes, bytes);
  ASSERT_TRUE(there.SetPeekOffset(-1).has_value());
  ASSERT_TRUE(there.Discard().has_value());
  EXPECT_EQ(there.Peek(buffer)->bytes, 3u);
  EXPECT_EQ(there.Receive(buffer)->bytes, 3u);
  EXPECT_EQ(there.Receive(buffer)->bytes, 5u);
}

TEST(SeqPacketTest, Hostile_EmptyPacketWithDescriptors) {
  auto [a, b] = UnixSocket::Pair(SocketType::kSeqPacket).value();
  const size_t before = OpenDescriptors();
  SendRaw(a, "", 2);
  std::array<uint8_t, 64> buffer;
  EXPECT_EQ(b.Receive(buffer).error().kind(), ErrorKind::kProtocol);
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST(StreamTest, ReceiveAllCollectsParts) {
  auto [a, b] = UnixSocket::Pair(SocketType::kStream).value();
  const BorrowedFd fds[] = {a.fd()};
  ASSERT_TRUE(a.SendAll(Bytes("abc"), fds).has_value());
  ASSERT_TRUE(a.SendAll(Bytes("def"), fds).has_value());
  std::array<uint8_t, 6> buffer;
  const Received received = b.ReceiveAll(buffer).value();
  EXPECT_EQ(received.bytes, 6U);
  EXPECT_EQ(received.fds.size(), 2U);
  EXPECT_EQ(std::string(buffer.begin(), buffer.end()), "abcdef");
}

TEST(StreamTest, LargeTransferTakesSeveralCalls) {
  auto [a, b] = UnixSocket::Pair(SocketType::kStream).value();
  std::vector<uint8_t> data(8 << 20);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<uint8_t>(i * 7);
  std::thread sender([&from = a, &data] { EXPECT_TRUE(from.SendAll(data).has_value()); });
  std::vector<uint8_t> got(data.size());
  EXPECT_EQ(b.ReceiveAll(got).value().bytes, data.size());
  sender.join();
  EXPECT_EQ(got, data);
}

TEST(StreamTest, Hostile_EndInTheMiddle) {
  auto [a, b] = UnixSocket::Pair(SocketType::kStream).value();
  ASSERT_TRUE(a.SendAll(Bytes("abc")).has_value());
  a = UnixSocket();
  std::array<uint8_t, 6> buffer;
  EXPECT_EQ(b.ReceiveAll(buffer).error().kind(), ErrorKind::kDisconnected);
}

TEST(StreamTest, Hostile_RestNeverComes) {
  auto [a, b] = UnixSocket::Pair(SocketType::kStream).value();
  ASSERT_TRUE(SetNonBlocking(b.fd(), true).has_value());
  std::array<uint8_t, 6> buffer;
  EXPECT_EQ(b.ReceiveAll(buffer).error().kind(), ErrorKind::kBusy);
  ASSERT_TRUE(a.SendAll(Bytes("abc")).has_value());
  EXPECT_EQ(b.ReceiveAll(buffer).error().kind(), ErrorKind::kTimedOut);
}

TEST(StreamTest, Hostile_DescriptorsWithEachByte) {
  auto [a, b] = UnixSocket::Pair(SocketType::kStream).value();
  const size_t before = OpenDescriptors();
  for (int i = 0; i < 4; ++i) SendRaw(a, "x", kMaxFdsPerMessage);
  std::array<uint8_t, 4> buffer;
  EXPECT_EQ(b.ReceiveAll(buffer).error().kind(), ErrorKind::kProtocol);
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST(ListenerTest, AcceptsAndRemovesItsPath) {
  const TempFolder folder;
  const std::string path = folder.path + "/s";
  {
    const UnixListener listener = UnixListener::Bind(path, SocketType::kSeqPacket).value();
    const UnixSocket client = UnixSocket::Connect(path, SocketType::kSeqPacket).value();
    const UnixSocket server = listener.Accept().value();
    ASSERT_TRUE(client.SendAll(Bytes("hi")).has_value());
    std::array<uint8_t, 8> buffer;
    EXPECT_EQ(server.Receive(buffer).value().bytes, 2U);
    const auto second = UnixListener::Bind(path, SocketType::kSeqPacket);
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().kind(), ErrorKind::kAlreadyExists);
    EXPECT_NE(second.error().ToString().find(path), std::string::npos);
    EXPECT_EQ(access(path.c_str(), F_OK), 0);  // the failure has not removed it
  }
  EXPECT_EQ(access(path.c_str(), F_OK), -1);
}

TEST(ListenerTest, LeavesAnotherFileAlone) {
  const TempFolder folder;
  const std::string path = folder.path + "/s";
  {
    const UnixListener listener = UnixListener::Bind(path, SocketType::kStream).value();
    ASSERT_EQ(rename(path.c_str(), (path + "2").c_str()), 0);
    const UniqueFd other = Open(path, O_CREAT | O_WRONLY, 0600).value();
  }
  EXPECT_EQ(access(path.c_str(), F_OK), 0);
  EXPECT_EQ(unlink(path.c_str()), 0);
  EXPECT_EQ(unlink((path + "2").c_str()), 0);
}

TEST(ListenerTest, MovesKeepOnePath) {
  const TempFolder folder;
  const std::string path = folder.path + "/s";
  UnixListener a = UnixListener::Bind(path, SocketType::kStream).value();
  UnixListener b = std::move(a);
  EXPECT_EQ(access(path.c_str(), F_OK), 0);
  b = UnixListener::Bind(path + "2", SocketType::kStream).value();
  EXPECT_EQ(access(path.c_str(), F_OK), -1);
  EXPECT_EQ(b.path(), path + "2");
}

TEST(ListenerTest, LongPathsWork) {
  const TempFolder folder;
  const std::string deep = folder.path + "/" + std::string(200, 'd');
  ASSERT_EQ(mkdir(deep.c_str(), 0700), 0);
  {
    const size_t before = OpenDescriptors();
    const std::string path = deep + "/socket";
    const UnixListener listener = UnixListener::Bind(path, SocketType::kStream).value();
    const UnixSocket client = UnixSocket::Connect(path, SocketType::kStream).value();
    EXPECT_TRUE(listener.Accept().has_value());
    EXPECT_EQ(OpenDescriptors(), before + 2);
    // A file name that does not fit even then.
    const auto longer = UnixListener::Bind(deep + "/" + std::string(100, 'n'), SocketType::kStream);
    ASSERT_FALSE(longer.has_value());
    EXPECT_EQ(longer.error().kind(), ErrorKind::kInvalidArgument);
  }
  EXPECT_EQ(rmdir(deep.c_str()), 0);
}

TEST(ListenerTest, BadPaths) {
  EXPECT_FALSE(UnixListener::Bind("", SocketType::kStream).has_value());
  EXPECT_FALSE(UnixSocket::Connect(std::string("a\0b", 3), SocketType::kStream).has_value());
  const auto missing = UnixSocket::Connect("/nonexistent/s", SocketType::kStream);
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().kind(), ErrorKind::kNotFound);
  EXPECT_EQ(missing.error().ToString(), "connecting to /nonexistent/s: no such file or directory");
}

}  // namespace
}  // namespace crosvm::sys

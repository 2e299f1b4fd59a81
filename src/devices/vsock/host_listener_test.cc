#include "devices/vsock/host_listener.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/vsock/testing/fake_connector.h"
#include "devices/vsock/vsock_device.h"
#include "event/test_loop.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "virtio/testing/driver.h"

namespace crosvm::devices::vsock {
namespace {

TEST(Greeting, IsALine) {
  EXPECT_EQ(ParseGreeting("CONNECT 1024"), 1024u);
  EXPECT_EQ(ParseGreeting("CONNECT 0\r"), 0u);
  EXPECT_EQ(ParseGreeting("CONNECT 4294967294"), 4294967294u);
}

TEST(Greeting, Hostile_EverythingElse) {
  for (const char* line : {"", "CONNECT", "CONNECT ", "CONNECT x", "CONNECT 1 2", "CONNECT -1",
                           "CONNECT  1", "CONNECT 4294967295", "CONNECT 99999999999", "connect 1",
                           "CONNECT 0x10", "CONNECT 1\r\r"}) {
    EXPECT_FALSE(ParseGreeting(line)) << line;
  }
}

class HostListenerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = "/tmp/vsock_test_XXXXXX";
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    path_ = directory_ + "/connect";
    Result<sys::UnixListener> bound = sys::UnixListener::Bind(path_, sys::SocketType::kStream);
    ASSERT_TRUE(bound.has_value());
    bound_ = std::move(*bound);
    ASSERT_TRUE(sys::SetNonBlocking(bound_.fd(), true).has_value());
    listener_ = *HostListener::Create(loop_, *bound_.fd().Dup(),
                                      [this](uint32_t port, sys::UniqueFd socket) {
                                        ports_.push_back(port);
                                        sockets_.push_back(sys::UnixSocket(std::move(socket)));
                                      });
  }
  void TearDown() override {
    listener_.reset();
    bound_ = sys::UnixListener();
    rmdir(directory_.c_str());
  }
  sys::UnixSocket Dial(std::string_view text) {
    sys::UnixSocket socket = *sys::UnixSocket::Connect(path_, sys::SocketType::kStream);
    Say(socket, text);
    return socket;
  }
  void Say(const sys::UnixSocket& socket, std::string_view text) {
    (void)send(socket.fd().get(), text.data(), text.size(), MSG_NOSIGNAL);
    loop_.RunUntilIdle();
  }
  static bool Closed(const sys::UnixSocket& socket) {
    char byte = 0;
    return recv(socket.fd().get(), &byte, 1, MSG_DONTWAIT) == 0;
  }

  event::TestLoop loop_;
  std::string directory_;
  std::string path_;
  sys::UnixListener bound_;
  std::unique_ptr<HostListener> listener_;
  std::vector<uint32_t> ports_;
  std::vector<sys::UnixSocket> sockets_;
};

TEST_F(HostListenerTest, HandsOnTheConnectionBehindTheLine) {
  const sys::UnixSocket client = Dial("CONNECT 77\nand data");
  EXPECT_EQ(ports_, std::vector<uint32_t>{77});
  char data[32];
  EXPECT_EQ(recv(sockets_[0].fd().get(), data, sizeof(data), MSG_DONTWAIT), 8);
  EXPECT_EQ(listener_->greeting(), 0u);
}

TEST_F(HostListenerTest, TheLineMayComeInParts) {
  const sys::UnixSocket client = Dial("CONN");
  EXPECT_EQ(listener_->greeting(), 1u);
  Say(client, "ECT 5");
  Say(client, "6\n");
  EXPECT_EQ(ports_, std::vector<uint32_t>{56});
}

TEST_F(HostListenerTest, Hostile_NonsenseIsClosed) {
  for (const std::string& text : {std::string("GET / HTTP/1.1\r\n"), std::string(200, 'x'),
                                  std::string("CONNECT \n"), std::string("\n")}) {
    const sys::UnixSocket client = Dial(text);
    EXPECT_TRUE(Closed(client) || errno == ECONNRESET) << text;
  }
  EXPECT_TRUE(ports_.empty());
}

TEST_F(HostListenerTest, Hostile_SilenceEnds) {
  const sys::UnixSocket client = Dial("CONNECT 5");
  loop_.AdvanceTime(kGreetingTimeout);
  EXPECT_TRUE(Closed(client) || errno == ECONNRESET);
  EXPECT_EQ(listener_->greeting(), 0u);
}

TEST_F(HostListenerTest, Hostile_ManySilentOnesAreBounded) {
  std::vector<sys::UnixSocket> clients;
  for (size_t i = 0; i < kMaxGreeting + 20; ++i) clients.push_back(Dial(""));
  EXPECT_EQ(listener_->greeting(), kMaxGreeting);
  const sys::UnixSocket late = Dial("CONNECT 9\n");
  EXPECT_TRUE(ports_.empty());
  loop_.AdvanceTime(kGreetingTimeout);
  EXPECT_EQ(ports_, std::vector<uint32_t>{9});
}

TEST_F(HostListenerTest, WithoutADriverTheConnectionIsClosed) {
  testing::FakeConnector::Host host;
  listener_.reset();
  auto device = *VsockDevice::Create(loop_, 3, std::make_unique<testing::FakeConnector>(host),
                                     *bound_.fd().Dup());
  const sys::UnixSocket client = Dial("CONNECT 77\n");
  EXPECT_TRUE(Closed(client));
}

// A whole stream that begins on the host.
TEST_F(HostListenerTest, AStreamFromTheHost) {
  testing::FakeConnector::Host host;
  listener_.reset();
  const memory::GuestMemory memory = virtio::testing::Driver::MakeMemory(16 << 20);
  std::vector<virtio::testing::Driver> drivers;
  auto device = *VsockDevice::Create(loop_, 3, std::make_unique<testing::FakeConnector>(host),
                                     *bound_.fd().Dup());
  for (uint16_t i = 0; i < 3; ++i) {
    drivers.emplace_back(
        memory, virtio::testing::DriverOptions{.area = memory::GuestAddr(0x1000 + i * 0x100000)});
    ASSERT_TRUE(device->StartQueue(i, drivers[i].MakeQueue()).has_value());
  }
  for (int i = 0; i < 4; ++i) drivers[0].Chain().Writable(4096).Submit();
  const sys::UnixSocket client = Dial("CONNECT 77\nhello");
  std::vector<virtio::testing::Used> used = drivers[0].AllUsed();
  ASSERT_EQ(used.size(), 1u);
  PacketHeader request;
  memcpy(&request, used[0].data.data(), sizeof(request));
  EXPECT_EQ(request.op.value(), VIRTIO_VSOCK_OP_REQUEST);
  EXPECT_EQ(request.dst_port.value(), 77u);
  PacketHeader response;
  response.src_cid = 3;
  response.dst_cid = kHostCid;
  response.src_port = 77;
  response.dst_port = request.src_port;
  response.type = VIRTIO_VSOCK_TYPE_STREAM;
  response.op = VIRTIO_VSOCK_OP_RESPONSE;
  response.buf_alloc = 65536;
  drivers[1].Chain().ReadableStruct(response).Submit();
  drivers[1].Kick();
  loop_.RunUntilIdle();
  char line[64] = {};
  ASSERT_GT(recv(client.fd().get(), line, sizeof(line) - 1, MSG_DONTWAIT), 0);
  EXPECT_EQ(std::string(line), fmt::format("OK {}\n", request.src_port.value()));
  used = drivers[0].AllUsed();
  ASSERT_EQ(used.size(), 1u);
  EXPECT_EQ(std::string(used[0].data.begin() + 44, used[0].data.begin() + used[0].written),
            "hello");
  for (uint16_t i = 0; i < 3; ++i) device->StopQueue(i, [](virtio::Queue) {});
  device->Reset();
}

}  // namespace
}  // namespace crosvm::devices::vsock

// The virtual socket device in its jail: it reaches the sockets of its folder, and nothing else.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "device_host/device_host.h"
#include "device_host/launch.h"
#include "devices/vsock/vsock_wire.h"
#include "event/test_loop.h"
#include "sys/socket.h"
#include "testing/child_main.h"
#include "vhost_user/frontend.h"
#include "virtio/testing/driver.h"

namespace crosvm::device_host {
namespace {

using devices::vsock::PacketHeader;
using virtio::testing::Driver;

CROSVM_CHILD_MAIN(VsockDevice) {
  return ChildMain(devices::AllModules());
}

constexpr uint64_t kCid = 9;

class VsockJailTest : public ::testing::Test {
 protected:
  void SetUp() override {
    CROSVM_REQUIRE_USER_NAMESPACES();
    directory_ = "/tmp/crosvm-vsock-XXXXXX";
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    folder_ = directory_ + "/folder";
    ASSERT_EQ(mkdir(folder_.c_str(), 0700), 0);
  }
  void TearDown() override {
    frontend_.reset();
    hosted_ = HostedDevice();
    prepared_ = devices::PreparedDevice();
    inside_ = sys::UnixListener();
    outside_ = sys::UnixListener();
    for (const char* name : {"folder/1", "folder/2", "folder/connect", "outside"}) {
      unlink((directory_ + "/" + name).c_str());
    }
    rmdir(folder_.c_str());
    rmdir(directory_.c_str());
  }

  void Start() {
    const devices::DeviceModule* const module = devices::FindModule("vsock");
    ASSERT_NE(module, nullptr);
    auto prepared = module->prepare(fmt::format("cid={},path={}", kCid, folder_));
    ASSERT_TRUE(prepared.has_value()) << prepared.error().ToString();
    prepared_ = std::move(*prepared);
    auto hosted =
        Launch(*module, prepared_, {.label = "vsock[0]", .entry = "--child-main=VsockDevice"});
    ASSERT_TRUE(hosted.has_value()) << hosted.error().ToString();
    hosted_ = std::move(*hosted);
    auto frontend = vhost_user::Frontend::Connect(loop_, std::move(hosted_.vhost_user),
                                                  {.name = "vsock[0]", .info = hosted_.info});
    ASSERT_TRUE(frontend.has_value()) << frontend.error().ToString();
    frontend_ = std::move(*frontend);
    std::vector<virtio::QueueActivation> queues;
    for (uint16_t i = 0; i < 3; ++i) {
      queues.push_back({.index = i,
                        .size = drivers_[i].options().size,
                        .addresses = drivers_[i].addresses(),
                        .kick = &drivers_[i].kick(),
                        .call = &drivers_[i].call()});
    }
    const Status active = frontend_->Activate(memory_, drivers_[0].features(), queues);
    ASSERT_TRUE(active.has_value()) << active.error().ToString();
  }

  Driver MakeDriver(uint64_t area) {
    return Driver(memory_, {.size = 16, .area = memory::GuestAddr(area), .area_size = 0x100000});
  }

  // What the device answers to a request for a port; 0: nothing.
  uint16_t Ask(uint32_t port) {
    drivers_[0].Chain().Writable(4096).Submit();
    drivers_[0].Kick();
    PacketHeader header;
    header.src_cid = kCid;
    header.dst_cid = devices::vsock::kHostCid;
    header.src_port = 1000 + port;
    header.dst_port = port;
    header.type = VIRTIO_VSOCK_TYPE_STREAM;
    header.op = VIRTIO_VSOCK_OP_REQUEST;
    header.buf_alloc = 4096;
    drivers_[1].Chain().ReadableStruct(header).Submit();
    drivers_[1].Kick();
    const auto used = drivers_[0].AwaitUsed();
    if (!used) {
      ADD_FAILURE() << "no answer; " << hosted_.last_words.Read();
      return 0;
    }
    PacketHeader answer;
    memcpy(&answer, used->data.data(), sizeof(answer));
    return answer.op;
  }

  std::string directory_;
  std::string folder_;
  memory::GuestMemory memory_ = Driver::MakeMemory(8 << 20);
  Driver drivers_[3] = {MakeDriver(0x1000), MakeDriver(0x201000), MakeDriver(0x401000)};
  event::TestLoop loop_;
  devices::PreparedDevice prepared_;
  HostedDevice hosted_;
  std::unique_ptr<vhost_user::Frontend> frontend_;
  sys::UnixListener inside_;
  sys::UnixListener outside_;
};

TEST_F(VsockJailTest, ReachesTheSocketsOfItsFolderOnly) {
  inside_ = *sys::UnixListener::Bind(folder_ + "/1", sys::SocketType::kStream);
  outside_ = *sys::UnixListener::Bind(directory_ + "/outside", sys::SocketType::kStream);
  ASSERT_EQ(symlink((directory_ + "/outside").c_str(), (folder_ + "/2").c_str()), 0);
  Start();
  EXPECT_TRUE(hosted_.layers.Has(jail::Layer::kPivotRoot));
  EXPECT_TRUE(hosted_.layers.Has(jail::Layer::kSeccomp));
  EXPECT_EQ(Ask(1), VIRTIO_VSOCK_OP_RESPONSE);
  EXPECT_EQ(Ask(2), VIRTIO_VSOCK_OP_RST);
  EXPECT_EQ(Ask(3), VIRTIO_VSOCK_OP_RST);
  // It lives on.
  EXPECT_TRUE(hosted_.process.TryWait().has_value());
  EXPECT_FALSE((*hosted_.process.TryWait()).has_value());
}

TEST_F(VsockJailTest, TakesConnectionsOfTheHost) {
  Start();
  drivers_[0].Chain().Writable(4096).Submit();
  drivers_[0].Kick();
  const auto client = sys::UnixSocket::Connect(folder_ + "/connect", sys::SocketType::kStream);
  ASSERT_TRUE(client.has_value()) << client.error().ToString();
  constexpr std::string_view kLine = "CONNECT 77\n";
  ASSERT_EQ(send(client->fd().get(), kLine.data(), kLine.size(), 0),
            static_cast<ssize_t>(kLine.size()));
  const auto used = drivers_[0].AwaitUsed();
  ASSERT_TRUE(used.has_value()) << hosted_.last_words.Read();
  PacketHeader request;
  memcpy(&request, used->data.data(), sizeof(request));
  EXPECT_EQ(request.op.value(), VIRTIO_VSOCK_OP_REQUEST);
  EXPECT_EQ(request.dst_port.value(), 77u);
}

}  // namespace
}  // namespace crosvm::device_host

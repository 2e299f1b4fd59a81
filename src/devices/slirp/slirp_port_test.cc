// The port over the real libslirp, with sockets on the loopback.
#include "devices/slirp/slirp_port.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "devices/net/net_wire.h"
#include "devices/slirp/testing/frames.h"
#include "event/test_loop.h"
#include "virtio/testing/driver.h"

namespace crosvm::devices::slirp {
namespace {

using namespace testing;
using net::kHeaderBytes;

// A listening socket on the loopback.
class Listener {
 public:
  Listener() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(listen(fd_.get(), 8), 0);
    EXPECT_EQ(getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
  }
  uint16_t port() const { return port_; }
  void Close() { fd_ = sys::UniqueFd(); }

 private:
  sys::UniqueFd fd_;
  uint16_t port_ = 0;
};

sys::UniqueFd ConnectTo(uint16_t port) {
  sys::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  return fd;
}

class SlirpPortTest : public ::testing::Test {
 protected:
  Status Make(PortOptions options) {
    port_ = TRY(SlirpPort::Create(loop_, std::move(options)));
    return port_->Start(loop_, [this] {
      Bytes spill(net::kMaxFrameBytes);
      while (true) {
        const int64_t got = port_->Receive({}, spill);
        if (got <= 0) break;
        frames_.emplace_back(spill.begin(), spill.begin() + got);
      }
    });
  }
  void MakeReady(PortOptions options) {
    const Status made = Make(std::move(options));
    ASSERT_TRUE(made.has_value()) << made.error().ToString();
    port_->SetReceiving(true);
    // Who the guest is.
    Send(ArpRequest(kGuest, "10.0.2.2"));
    loop_.RunUntilIdle();
    frames_.clear();
  }
  bool Send(const Bytes& frame, Bytes header = Bytes(kHeaderBytes)) {
    const Bytes whole = header + frame;
    const memory::GuestSlice slice = *memory_.Slice(memory::GuestAddr(0x1000), whole.size());
    slice.CopyFrom(whole);
    return port_->Send(std::span(&slice, 1));
  }
  // The first frame for the guest that holds a packet of this protocol; waits for it.
  Bytes WaitFor(Protocol protocol) {
    Bytes found;
    const auto search = [&] {
      for (const Bytes& frame : frames_) {
        const auto packet = ParseFrame(std::span(frame).subspan(kHeaderBytes));
        if (packet && packet->protocol == protocol)
          found = Bytes(frame.begin() + kHeaderBytes, frame.end());
      }
      return !found.empty();
    };
    EXPECT_TRUE(loop_.RunUntil(search)) << "no frame of protocol " << static_cast<int>(protocol);
    if (found.empty()) found = Udp(kGuest, 1, "10.0.2.2", 1);
    return found;
  }
  static FilterOptions Loopback() {
    return {.restricted = false, .allow = {}, .host_loopback = true};
  }

  memory::GuestMemory memory_ = virtio::testing::Driver::MakeMemory(1 << 20);
  event::TestLoop loop_;
  std::unique_ptr<SlirpPort> port_;
  std::vector<Bytes> frames_;
};

TEST_F(SlirpPortTest, TheGatewayAnswers) {
  ASSERT_TRUE(Make({}).has_value());
  port_->SetReceiving(true);
  EXPECT_TRUE(Send(ArpRequest(kGuest, "10.0.2.2")));
  EXPECT_EQ(WaitFor(Protocol::kArp)[14 + 7], 2);
  EXPECT_TRUE(Send(Echo(kGuest, "10.0.2.2")));
  ASSERT_TRUE(loop_.RunUntil([&] { return frames_.size() >= 2; }));
  EXPECT_EQ(frames_.back()[kHeaderBytes + 14 + 20], 0);  // echo reply
}

TEST_F(SlirpPortTest, ConnectionsReachTheHost) {
  const Listener listener;
  MakeReady({.filter = Loopback(), .resolvers = {}, .forwards = {}});
  EXPECT_TRUE(Send(Tcp(kGuest, 1000, "10.0.2.2", listener.port(), kSyn)));
  const Bytes answer = WaitFor(Protocol::kTcp);
  EXPECT_EQ(answer[14 + 20 + 13] & (kSyn | kAck | kRst), kSyn | kAck);
}

TEST_F(SlirpPortTest, ClosedPlacesAreRefusedWithAWord) {
  const Listener listener;
  MakeReady({});
  EXPECT_FALSE(Send(Tcp(kGuest, 1000, "10.0.2.2", listener.port(), kSyn)));
  ASSERT_TRUE(loop_.RunUntil([&] { return !frames_.empty(); }));
  EXPECT_EQ(frames_[0][kHeaderBytes + 14 + 20], 3);
  EXPECT_EQ(port_->counters().refused, 1u);
  EXPECT_EQ(port_->stack().sockets(), 0u);
}

TEST_F(SlirpPortTest, ASegmentOfNoConnectionIsReset) {
  MakeReady({.filter = {.restricted = true, .allow = {}, .host_loopback = false},
             .resolvers = {},
             .forwards = {}});
  EXPECT_TRUE(Send(Tcp(kGuest, 1000, "192.0.2.1", 80, kAck)));
  EXPECT_EQ(WaitFor(Protocol::kTcp)[14 + 20 + 13] & kRst, kRst);
}

TEST_F(SlirpPortTest, AForwardBringsConnections) {
  Listener taken;
  const config::HostForward forward{.host_port = taken.port(), .guest_port = 80};
  taken.Close();
  MakeReady({.filter = {.restricted = true, .allow = {}, .host_loopback = false},
             .resolvers = {},
             .forwards = {forward}});
  const sys::UniqueFd client = ConnectTo(forward.host_port);
  const Bytes opening = WaitFor(Protocol::kTcp);
  const auto packet = ParseFrame(opening);
  EXPECT_TRUE(packet->opens);
  EXPECT_EQ(packet->destination.ToString(), kGuest);
  EXPECT_EQ(packet->destination_port, 80);
  ASSERT_TRUE(port_->RemoveForward(forward).has_value());
  EXPECT_EQ(port_->RemoveForward(forward).error().kind(), ErrorKind::kNotFound);
  EXPECT_TRUE(port_->AddForward(forward).has_value());
}

TEST_F(SlirpPortTest, APortThatIsTakenIsAnErrorWithRemedy) {
  const Listener listener;
  const Status made = Make({.filter = {},
                            .resolvers = {},
                            .forwards = {{.host_port = listener.port(), .guest_port = 80}}});
  ASSERT_FALSE(made.has_value());
  EXPECT_NE(made.error().ToString().find("choose another port"), std::string::npos)
      << made.error().ToString();
}

TEST_F(SlirpPortTest, ChecksumsAreVouchedForWhenTheDriverTakesThat) {
  MakeReady({});
  ASSERT_TRUE(port_->SetOffloads(virtio::FeatureBit(VIRTIO_NET_F_GUEST_CSUM)).has_value());
  EXPECT_TRUE(Send(Echo(kGuest, "10.0.2.2")));
  ASSERT_TRUE(loop_.RunUntil([&] { return !frames_.empty(); }));
  EXPECT_EQ(frames_[0][0], VIRTIO_NET_HDR_F_DATA_VALID);
}

TEST_F(SlirpPortTest, Hostile_OffloadsThatWereNotOfferedAreRefused) {
  MakeReady({});
  Bytes header(kHeaderBytes);
  header[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
  EXPECT_FALSE(Send(Echo(kGuest, "10.0.2.2"), header));
  header[0] = 0;
  header[1] = VIRTIO_NET_HDR_GSO_TCPV4;
  EXPECT_FALSE(Send(Echo(kGuest, "10.0.2.2"), header));
  EXPECT_EQ(port_->counters().unparsed, 2u);
}

TEST_F(SlirpPortTest, Hostile_AGuestThatDoesNotReceiveFillsABoundedQueue) {
  MakeReady({});
  port_->SetReceiving(false);
  for (size_t i = 0; i < 3 * SlirpPort::kMaxQueuedFrames; ++i) Send(Echo(kGuest, "10.0.2.2"));
  loop_.RunUntilIdle();
  EXPECT_TRUE(frames_.empty());
  EXPECT_GT(port_->counters().dropped, 0u);
  port_->SetReceiving(true);
  loop_.RunUntilIdle();
  EXPECT_LE(frames_.size(), SlirpPort::kMaxQueuedFrames);
  EXPECT_GT(frames_.size(), SlirpPort::kMaxQueuedFrames / 2);
  // And goes on.
  frames_.clear();
  EXPECT_TRUE(Send(Echo(kGuest, "10.0.2.2")));
  EXPECT_TRUE(loop_.RunUntil([&] { return !frames_.empty(); }));
}

}  // namespace
}  // namespace crosvm::devices::slirp

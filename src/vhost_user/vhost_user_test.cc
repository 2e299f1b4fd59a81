// The two ends against each other over a socket pair, the back-end on a thread of its own as in a
// device process.
#include <gtest/gtest.h>
#include <poll.h>

#include <thread>

#include "testing/child_main.h"
#include "vhost_user/echo_backend.h"

namespace crosvm::vhost_user {
namespace {

INSTANTIATE_TEST_SUITE_P(Formats, VhostUserTest, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "Packed" : "Split"; });

TEST_P(VhostUserTest, LearnsFeaturesAndConfiguration) {
  Connect();
  EXPECT_EQ(frontend_->info().features, virtio::kQueueFeatures | 3);
  EXPECT_EQ(frontend_->info().queue_sizes.size(), 2u);
  std::vector<uint8_t> config(3);
  ASSERT_TRUE(frontend_->ReadConfig(2, config).has_value());
  EXPECT_EQ(config, (std::vector<uint8_t>{3, 4, 5}));
  const uint8_t bytes[] = {9};
  ASSERT_TRUE(frontend_->WriteConfig(2, bytes).has_value());
  EXPECT_TRUE(loop_.RunUntil([&] { return config_changes_ == 1; }));
  ASSERT_TRUE(frontend_->ReadConfig(2, config).has_value());
  EXPECT_EQ(config[0], 9);
  EXPECT_TRUE(frontend_->CheckFeatures(3).has_value());
  EXPECT_FALSE(frontend_->CheckFeatures(4).has_value());
  frontend_.reset();
  backend_->Join();
  EXPECT_NE(backend_->why().find("closed"), std::string::npos) << backend_->why();
}

TEST_P(VhostUserTest, RequestsGoThrough) {
  Connect();
  Status active = ActivateBoth();
  ASSERT_TRUE(active.has_value()) << active.error().ToString();
  for (int i = 0; i < 200; ++i) {
    Driver& driver = i % 2 == 0 ? driver0_ : driver1_;
    driver.Chain().Readable(std::to_string(i)).Writable(16).Submit();
    driver.Kick();
    ASSERT_EQ(Next(driver), std::to_string(i));
  }
  const auto positions = frontend_->Suspend();
  ASSERT_TRUE(positions.has_value());
  ASSERT_EQ(positions->size(), 2u);
  // And on from there.
  const virtio::QueueActivation again[] = {Activation(0, driver0_, (*positions)[0])};
  ASSERT_TRUE(frontend_->Activate(memory_, driver0_.features(), again).has_value());
  driver0_.Chain().Readable("again").Writable(16).Submit();
  driver0_.Kick();
  EXPECT_EQ(Next(driver0_), "again");
  ASSERT_TRUE(frontend_->StopQueue(0).has_value());
  EXPECT_FALSE(frontend_->StopQueue(0).has_value());
  frontend_.reset();
  backend_->Join();
  // At the end of the connection: a device is not reset to be suspended.
  EXPECT_EQ(backend_->resets(), 1);
}

TEST_P(VhostUserTest, StopAndStartOneQueue) {
  Connect();
  ASSERT_TRUE(ActivateBoth().has_value());
  for (int i = 0; i < 70; ++i) {
    driver1_.Chain().Readable("x").Writable(4).Submit();
    driver1_.Kick();
    ASSERT_EQ(Next(driver1_), "x");
    const auto position = frontend_->StopQueue(1);
    ASSERT_TRUE(position.has_value()) << position.error().ToString();
    ASSERT_TRUE(frontend_->StartQueue(Activation(1, driver1_, *position)).has_value());
  }
}

TEST_P(VhostUserTest, ASuccessorFinishesWhatWasInFlight) {
  Connect();
  ASSERT_TRUE(ActivateBoth().has_value());
  for (const char* text : {"a", "!1", "!2", "b", "!3"}) {
    driver0_.Chain().Readable(text).Writable(16).Submit();
  }
  driver0_.Kick();
  EXPECT_EQ(Next(driver0_), "a");
  EXPECT_EQ(Next(driver0_), "b");
  backend_->Crash();
  ASSERT_TRUE(loop_.RunUntil([&] { return failures_.size() == 1; }));
  EXPECT_FALSE(frontend_->StopQueue(5).has_value());
  std::vector<uint8_t> config(1);
  EXPECT_FALSE(frontend_->ReadConfig(0, config).has_value());
  // What the guest adds meanwhile waits.
  driver0_.Chain().Readable("late").Writable(16).Submit();
  driver0_.Kick();

  auto [front, back] = *sys::UnixSocket::Pair(sys::SocketType::kStream);
  BackendThread successor(std::move(back), /*hold=*/false);
  Status attached = frontend_->Reattach(std::move(front));
  ASSERT_TRUE(attached.has_value()) << attached.error().ToString();
  for (const char* text : {"!1", "!2", "!3", "late"}) EXPECT_EQ(Next(driver0_), text);
  driver0_.Chain().Readable("new").Writable(16).Submit();
  driver0_.Kick();
  EXPECT_EQ(Next(driver0_), "new");
  EXPECT_EQ(driver0_.outstanding(), 0u);
  EXPECT_EQ(failures_.size(), 1u);
  frontend_.reset();
}

TEST_P(VhostUserTest, BadRingAddressesAreRefusedAndTheBackendLives) {
  Connect();
  virtio::QueueActivation bad = Activation(0, driver0_);
  bad.addresses.descriptors = memory::GuestAddr(0x10000000);
  EXPECT_FALSE(frontend_->Activate(memory_, driver0_.features(), {&bad, 1}).has_value());
  std::vector<uint8_t> config(1);
  EXPECT_TRUE(frontend_->ReadConfig(0, config).has_value());
}

// Back-ends that do not play by the rules.

class HostileBackendTest : public ::testing::Test {
 protected:
  static FrontendOptions Evil(std::chrono::milliseconds patience) {
    return {.name = "evil", .info = {.queue_sizes = {64}}, .handshake_timeout = patience};
  }
  static FrontendOptions Impatient() { return Evil(std::chrono::milliseconds(50)); }
  // What Connect says to a peer that sends `bytes` and then nothing.
  ErrorKind ConnectTo(std::vector<uint8_t> bytes,
                      FrontendOptions options = Evil(std::chrono::seconds(30))) {
    auto [front, back] = *sys::UnixSocket::Pair(sys::SocketType::kStream);
    EXPECT_TRUE(back.SendAll(bytes).has_value());
    const auto frontend = Frontend::Connect(loop_, std::move(front), std::move(options));
    EXPECT_FALSE(frontend.has_value());
    return frontend ? ErrorKind::kInternal : frontend.error().kind();
  }
  static std::vector<uint8_t> Bytes(uint32_t request, uint32_t flags, uint32_t size,
                                    size_t payload) {
    const Header header{request, flags, size};
    std::vector<uint8_t> bytes(BytesOf(header).begin(), BytesOf(header).end());
    bytes.resize(bytes.size() + payload);
    return bytes;
  }
  event::TestLoop loop_;
};

TEST_F(HostileBackendTest, Hostile_Silence) {
  EXPECT_EQ(ConnectTo({}, Impatient()), ErrorKind::kTimedOut);
  EXPECT_EQ(ConnectTo({1, 0, 0}, Impatient()), ErrorKind::kTimedOut);
  EXPECT_EQ(ConnectTo(Bytes(1, 5, 8, 3), Impatient()), ErrorKind::kTimedOut);
}

TEST_F(HostileBackendTest, Hostile_Replies) {
  EXPECT_EQ(ConnectTo(Bytes(1, 5, 0xffffffff, 0)), ErrorKind::kProtocol);
  EXPECT_EQ(ConnectTo(Bytes(1, 5, 4, 4)), ErrorKind::kProtocol);
  EXPECT_EQ(ConnectTo(Bytes(2, 5, 8, 8)), ErrorKind::kProtocol);
  EXPECT_EQ(ConnectTo(Bytes(1, 1, 8, 8)), ErrorKind::kProtocol);
  EXPECT_EQ(ConnectTo(Bytes(1, 6, 8, 8)), ErrorKind::kProtocol);
}

TEST_F(HostileBackendTest, Hostile_AnswerThatDripsIn) {
  auto [front, back] = *sys::UnixSocket::Pair(sys::SocketType::kStream);
  const std::vector<uint8_t> answer = Bytes(1, 5, 8, 8);
  size_t sent = 0;
  std::thread drip([&sent, &answer, peer = std::move(back)] {
    // From the question on, which is when the time begins.
    pollfd asked{.fd = peer.fd().get(), .events = POLLIN, .revents = 0};
    (void)poll(&asked, 1, -1);
    for (; sent < answer.size(); ++sent) {
      if (!peer.SendAll(std::span(answer).subspan(sent, 1))) return;
      // Well within a timeout that begins anew with each byte.
      pollfd closed{.fd = peer.fd().get(), .events = 0, .revents = 0};
      if (poll(&closed, 1, 20) != 0) return;
    }
  });
  ErrorKind kind = ErrorKind::kInternal;
  {
    const auto frontend = Frontend::Connect(loop_, std::move(front), Impatient());
    if (!frontend) kind = frontend.error().kind();
  }
  drip.join();
  EXPECT_EQ(kind, ErrorKind::kTimedOut);
  EXPECT_LT(sent, answer.size());
}

// Front-ends that do not.

class HostileFrontendTest : public ::testing::Test {
 protected:
  HostileFrontendTest() {
    auto [front, back] = *sys::UnixSocket::Pair(sys::SocketType::kStream);
    socket_ = std::move(front);
    server_ = *BackendServer::Create(loop_, device_, std::move(back), {},
                                     [this](Error why) { closed_ = why.ToString(); });
  }
  void Send(Request request, std::vector<uint8_t> payload = {},
            std::span<const sys::BorrowedFd> fds = {}) {
    (void)SendMessage(socket_, static_cast<uint32_t>(request), 0, payload, fds);
    loop_.RunUntilIdle();
  }
  template <typename T>
  static std::vector<uint8_t> P(const T& value) {
    return {BytesOf(value).begin(), BytesOf(value).end()};
  }
  bool closed() const { return !closed_.empty(); }

  event::TestLoop loop_;
  EchoDevice::Behaviour behaviour_;
  EchoDevice device_{loop_, behaviour_};
  sys::UnixSocket socket_;
  std::unique_ptr<BackendServer> server_;
  std::string closed_;
};

TEST_F(HostileFrontendTest, Hostile_UnknownRequest) {
  Send(static_cast<Request>(99));
  EXPECT_TRUE(closed());
}
TEST_F(HostileFrontendTest, Hostile_LongPayload) {
  const Header header{1u, 1u, 0x7fffffffu};
  ASSERT_TRUE(socket_.SendAll(BytesOf(header)).has_value());
  loop_.RunUntilIdle();
  EXPECT_TRUE(closed());
}
TEST_F(HostileFrontendTest, Hostile_FeaturesThatWereNotOffered) {
  Send(Request::kSetFeatures, P(U64{uint64_t{1} << 60}));
  EXPECT_TRUE(closed());
}
TEST_F(HostileFrontendTest, Hostile_RingsThatDoNotExist) {
  Send(Request::kSetVringNum, P(VringState{2u, 64u}));
  EXPECT_TRUE(closed());
}
TEST_F(HostileFrontendTest, Hostile_MemoryTableWithoutDescriptors) {
  std::vector<uint8_t> payload = P(MemoryHeader{1u, 0u});
  payload.resize(payload.size() + sizeof(MemoryRegion));
  Send(Request::kSetMemTable, payload);
  EXPECT_TRUE(closed());
}
TEST_F(HostileFrontendTest, Hostile_ConfigBeyondItsEnd) {
  Send(Request::kSetProtocolFeatures, P(U64{uint64_t{kProtocolConfig}}));
  EXPECT_FALSE(closed());
  std::vector<uint8_t> payload = P(ConfigHeader{7u, 2u, 0u});
  payload.resize(payload.size() + 2);
  Send(Request::kSetConfig, payload);
  EXPECT_TRUE(closed());
}
TEST_F(HostileFrontendTest, Hostile_RequestWithoutItsProtocolFeature) {
  Send(Request::kGetInflightFd, P(Inflight{}));
  EXPECT_TRUE(closed());
}
TEST_F(HostileFrontendTest, GetVringBaseOfARingThatNeverRan) {
  Send(Request::kSetVringBase, P(VringState{1u, 77u}));
  Send(Request::kGetVringBase, P(VringState{1u, 0u}));
  MessageReader reader;
  const auto reply = reader.Read(socket_);
  ASSERT_TRUE(reply.has_value() && reply->has_value());
  EXPECT_EQ((*reply)->As<VringState>()->num.value(), 77u);
}

}  // namespace
}  // namespace crosvm::vhost_user

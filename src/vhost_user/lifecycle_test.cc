// Suspending and resuming devices, resetting them, and their deaths meanwhile.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <initializer_list>
#include <memory>
#include <thread>

#include "vhost_user/echo_backend.h"

namespace crosvm::vhost_user {
namespace {

using std::chrono::milliseconds;

class LifecycleTest : public VhostUserTest {
 protected:
  static FrontendOptions Impatient() {
    FrontendOptions options = FrontOptions();
    options.drain_timeout = milliseconds(1000);
    return options;
  }
  // One queue does not drain; those before it have by then.
  void SuspendInVain(int stuck) {
    backend_->behaviour.stuck = stuck;
    const auto positions = frontend_->Suspend();
    ASSERT_FALSE(positions.has_value());
    EXPECT_EQ(positions.error().kind(), ErrorKind::kTimedOut);
  }
  void Submit(Driver& driver, std::initializer_list<const char*> texts) {
    for (const char* text : texts) driver.Chain().Readable(text).Writable(16).Submit();
    driver.Kick();
  }
};

INSTANTIATE_TEST_SUITE_P(Formats, LifecycleTest, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "Packed" : "Split"; });

TEST_P(LifecycleTest, ADeviceThatDiesBeforeTheSuspendGoesOnAfterTheResume) {
  Connect();
  ASSERT_TRUE(ActivateBoth().has_value());
  Submit(driver0_, {"a", "!1", "b", "!2"});
  EXPECT_EQ(Next(driver0_), "a");
  EXPECT_EQ(Next(driver0_), "b");
  backend_->Crash();
  const auto positions = frontend_->Suspend();
  ASSERT_FALSE(positions.has_value());
  EXPECT_EQ(positions.error().kind(), ErrorKind::kDisconnected);
  const Status attached = Succeed();
  ASSERT_TRUE(attached.has_value()) << attached.error().ToString();
  // The positions are not known; the records are.
  const Status resumed = ActivateBoth();
  ASSERT_TRUE(resumed.has_value()) << resumed.error().ToString();
  EXPECT_EQ(Next(driver0_), "!1");
  EXPECT_EQ(Next(driver0_), "!2");
  Submit(driver0_, {"new"});
  EXPECT_EQ(Next(driver0_), "new");
  EXPECT_EQ(driver0_.outstanding(), 0u);
}

TEST_P(LifecycleTest, ADeviceThatDoesNotDrainLosesNothing) {
  Connect(/*hold=*/true, Impatient());
  ASSERT_TRUE(ActivateBoth().has_value());
  Submit(driver0_, {"a", "b", "c"});
  for (const char* text : {"a", "b", "c"}) EXPECT_EQ(Next(driver0_), text);
  Submit(driver1_, {"d", "!1", "e"});
  EXPECT_EQ(Next(driver1_), "d");
  EXPECT_EQ(Next(driver1_), "e");
  SuspendInVain(/*stuck=*/1);
  backend_->Crash();
  ASSERT_TRUE(Succeed().has_value());
  const Status resumed = ActivateBoth();
  ASSERT_TRUE(resumed.has_value()) << resumed.error().ToString();
  EXPECT_EQ(Next(driver1_), "!1");
  Submit(driver0_, {"f"});
  EXPECT_EQ(Next(driver0_), "f");
  Submit(driver1_, {"g"});
  EXPECT_EQ(Next(driver1_), "g");
}

TEST_P(LifecycleTest, ADeviceThatDrainsTooLateLosesNothing) {
  Connect(/*hold=*/true, Impatient());
  ASSERT_TRUE(ActivateBoth().has_value());
  Submit(driver0_, {"a", "!1", "b"});
  EXPECT_EQ(Next(driver0_), "a");
  EXPECT_EQ(Next(driver0_), "b");
  SuspendInVain(/*stuck=*/0);
  // Nobody is there any more to hear where the queue stands.
  backend_->DrainAndJoin();
  EXPECT_EQ(Next(driver0_), "");
  ASSERT_TRUE(Succeed().has_value());
  const Status resumed = ActivateBoth();
  ASSERT_TRUE(resumed.has_value()) << resumed.error().ToString();
  Submit(driver0_, {"c"});
  EXPECT_EQ(Next(driver0_), "c");
}

// What a device keeps for its successor must outlive a connection that the front-end gives up.
TEST_P(LifecycleTest, TheEndResetsTheDeviceUnlessItHasSuccessors) {
  for (const bool resets : {true, false}) {
    Connect(/*hold=*/true, FrontOptions(), {.reset_at_end = resets});
    ASSERT_TRUE(ActivateBoth().has_value());
    frontend_.reset();
    backend_->Join();
    EXPECT_EQ(backend_->resets(), resets ? 1 : 0);
  }
}

TEST_P(LifecycleTest, AQueueThatIsStartedWhileTheDeviceIsLostRunsInItsSuccessor) {
  Connect();
  const virtio::QueueActivation first = Activation(0, driver0_);
  ASSERT_TRUE(frontend_->Activate(memory_, driver0_.features(), {&first, 1}).has_value());
  backend_->Crash();
  const Status started = frontend_->StartQueue(Activation(1, driver1_));
  ASSERT_FALSE(started.has_value());
  EXPECT_TRUE(virtio::MeansLost(started.error()));
  Submit(driver1_, {"a"});
  ASSERT_TRUE(Succeed().has_value());
  EXPECT_EQ(Next(driver1_), "a");
}

TEST_P(LifecycleTest, AQueueThatIsTakenBackFromALostDeviceLeavesNothingInFlight) {
  Connect();
  ASSERT_TRUE(ActivateBoth().has_value());
  Submit(driver0_, {"!0"});
  Submit(driver1_, {"!1", "!2", "a"});
  EXPECT_EQ(Next(driver1_), "a");
  backend_->Crash();
  EXPECT_FALSE(frontend_->StopQueue(1).has_value());
  const Status attached = Succeed();
  ASSERT_TRUE(attached.has_value()) << attached.error().ToString();
  EXPECT_EQ(Next(driver0_), "!0");
  Driver next(memory_, Options(0x300000));
  ASSERT_TRUE(frontend_->StartQueue(Activation(1, next)).has_value());
  Submit(next, {"b", "c"});
  EXPECT_EQ(Next(next), "b");
  EXPECT_EQ(Next(next), "c");
  EXPECT_FALSE(driver1_.NextUsed());
}

TEST_P(LifecycleTest, ARefusedStartLeavesTheOtherQueuesRunning) {
  Connect();
  const virtio::QueueActivation first = Activation(0, driver0_);
  ASSERT_TRUE(frontend_->Activate(memory_, driver0_.features(), {&first, 1}).has_value());
  virtio::QueueActivation bad = Activation(1, driver1_);
  bad.addresses.descriptors = memory::GuestAddr(0x10000000);
  const Status refused = frontend_->StartQueue(bad);
  ASSERT_FALSE(refused.has_value());
  EXPECT_FALSE(virtio::MeansLost(refused.error()));
  Submit(driver0_, {"a"});
  EXPECT_EQ(Next(driver0_), "a");
  ASSERT_TRUE(frontend_->StartQueue(Activation(1, driver1_)).has_value());
  Submit(driver1_, {"b"});
  EXPECT_EQ(Next(driver1_), "b");
}

TEST_P(LifecycleTest, ASuccessorOfASuspendedDeviceWaitsForTheResume) {
  Connect();
  ASSERT_TRUE(ActivateBoth().has_value());
  Submit(driver0_, {"a"});
  EXPECT_EQ(Next(driver0_), "a");
  const auto positions = frontend_->Suspend();
  ASSERT_TRUE(positions.has_value()) << positions.error().ToString();
  backend_->Crash();
  ASSERT_TRUE(Succeed().has_value());
  Submit(driver0_, {"b"});
  std::vector<uint8_t> config(1);
  ASSERT_TRUE(frontend_->ReadConfig(0, config).has_value());
  EXPECT_FALSE(driver0_.NextUsed());
  const virtio::QueueActivation queues[] = {Activation(0, driver0_, (*positions)[0]),
                                            Activation(1, driver1_, (*positions)[1])};
  ASSERT_TRUE(frontend_->Activate(memory_, driver0_.features(), queues).has_value());
  EXPECT_EQ(Next(driver0_), "b");
}

TEST_P(LifecycleTest, RecoveredRequestsOutliveASuspend) {
  Connect();
  ASSERT_TRUE(ActivateBoth().has_value());
  Submit(driver0_, {"!1", "a", "!2"});
  EXPECT_EQ(Next(driver0_), "a");
  backend_->Crash();
  ASSERT_TRUE(Succeed(/*idle=*/true).has_value());
  const auto positions = frontend_->Suspend();
  ASSERT_TRUE(positions.has_value()) << positions.error().ToString();
  backend_->behaviour.idle = false;
  const virtio::QueueActivation queues[] = {Activation(0, driver0_, (*positions)[0]),
                                            Activation(1, driver1_, (*positions)[1])};
  ASSERT_TRUE(frontend_->Activate(memory_, driver0_.features(), queues).has_value());
  EXPECT_EQ(Next(driver0_), "!1");
  EXPECT_EQ(Next(driver0_), "!2");
}

TEST_P(LifecycleTest, ADeathInsideOfActivate) {
  Connect();
  backend_->behaviour.deadly = 1;
  backend_->behaviour.stuck = 0;  // what it has taken is not finished, either
  Submit(driver0_, {"a", "!1", "b"});
  const Status active = ActivateBoth();
  ASSERT_FALSE(active.has_value());
  EXPECT_EQ(active.error().kind(), ErrorKind::kDisconnected);
  backend_->Join();
  EXPECT_EQ(Next(driver0_), "a");
  EXPECT_EQ(Next(driver0_), "b");
  const Status attached = Succeed();
  ASSERT_TRUE(attached.has_value()) << attached.error().ToString();
  EXPECT_EQ(Next(driver0_), "!1");
  Submit(driver1_, {"c"});
  EXPECT_EQ(Next(driver1_), "c");
}

TEST_P(LifecycleTest, ARefusedActivateLeavesNothingRunning) {
  Connect();
  virtio::QueueActivation queues[] = {Activation(0, driver0_), Activation(1, driver1_)};
  queues[1].addresses.descriptors = memory::GuestAddr(0x10000000);
  ASSERT_FALSE(frontend_->Activate(memory_, driver0_.features(), queues).has_value());
  Submit(driver0_, {"a"});
  // The next driver, which negotiates something else.
  Driver next(memory_, Options(0x300000));
  const virtio::QueueActivation again[] = {Activation(0, next)};
  const Status active = frontend_->Activate(memory_, next.features() | 1, again);
  ASSERT_TRUE(active.has_value()) << active.error().ToString();
  Submit(next, {"b"});
  EXPECT_EQ(Next(next), "b");
  EXPECT_FALSE(driver0_.NextUsed());
  EXPECT_TRUE(failures_.empty());
}

TEST_P(LifecycleTest, ADriverThatResetsIsNotReplayed) {
  Connect();
  ASSERT_TRUE(ActivateBoth().has_value());
  Submit(driver0_, {"!1"});
  backend_->Crash();
  EXPECT_FALSE(frontend_->Deactivate().has_value());
  ASSERT_TRUE(Succeed().has_value());
  Driver next(memory_, Options(0x300000));
  const virtio::QueueActivation queues[] = {Activation(0, next)};
  ASSERT_TRUE(frontend_->Activate(memory_, next.features(), queues).has_value());
  Submit(next, {"b"});
  EXPECT_EQ(Next(next), "b");
  EXPECT_FALSE(driver0_.NextUsed());
}

// A back-end of another make: answers by a script, and drives no ring.
class Foreigner {
 public:
  Foreigner(sys::UnixSocket socket, uint64_t protocol, uint64_t queues)
      : socket_(std::move(socket)), thread_([this, protocol, queues] {
          MessageReader reader;
          while (true) {
            const auto message = reader.Read(socket_);
            if (!message || !*message || !Answer(socket_, **message, protocol, queues)) return;
          }
        }) {}
  ~Foreigner() {
    (void)shutdown(socket_.fd().get(), SHUT_RDWR);
    thread_.join();
  }

 private:
  static bool Answer(const sys::UnixSocket& socket, const Message& message, uint64_t protocol,
                     uint64_t queues) {
    const auto reply = [&](std::span<const uint8_t> payload) {
      return SendMessage(socket, message.request, kFlagReply, payload).has_value();
    };
    switch (static_cast<Request>(message.request)) {
      case Request::kGetFeatures:
        return reply(BytesOf(U64{kFeatureProtocol | virtio::FeatureBit(VIRTIO_F_VERSION_1)}));
      case Request::kGetProtocolFeatures:
        return reply(BytesOf(U64{protocol}));
      case Request::kGetQueueNum:
        return reply(BytesOf(U64{queues}));
      case Request::kGetInflightFd:
        return reply(BytesOf(Inflight{}));
      case Request::kGetVringBase:
        return reply(BytesOf(VringState{message.Front<VringState>()->index, 5u}));
      default:
        return !message.needs_reply() || reply(BytesOf(U64{0u}));
    }
  }
  const sys::UnixSocket socket_;
  std::thread thread_;
};

class ForeignerTest : public VhostUserTest {
 protected:
  std::unique_ptr<Foreigner> Make(uint64_t protocol, uint64_t queues, sys::UnixSocket& front) {
    auto [ours, theirs] = *sys::UnixSocket::Pair(sys::SocketType::kStream);
    front = std::move(ours);
    return std::make_unique<Foreigner>(std::move(theirs), protocol, queues);
  }
};

INSTANTIATE_TEST_SUITE_P(Split, ForeignerTest, ::testing::Values(false));

TEST_P(ForeignerTest, NothingToTrackAndNoStatus) {
  sys::UnixSocket front;
  for (const uint64_t protocol : {uint64_t{0}, uint64_t{kProtocolReplyAck},
                                  uint64_t{kProtocolReplyAck | kProtocolInflightShmfd}}) {
    const auto foreigner = Make(protocol, 2, front);
    auto frontend = Frontend::Connect(loop_, std::move(front), FrontOptions());
    ASSERT_TRUE(frontend.has_value()) << frontend.error().ToString();
    frontend_ = *std::move(frontend);
    const Status active = ActivateBoth();
    ASSERT_TRUE(active.has_value()) << active.error().ToString();
    const auto positions = frontend_->Suspend();
    ASSERT_TRUE(positions.has_value()) << positions.error().ToString();
    EXPECT_EQ((*positions)[1].next_avail, 5);
    ASSERT_TRUE(ActivateBoth().has_value());
    ASSERT_TRUE(frontend_->Deactivate().has_value());
    frontend_.reset();
  }
}

TEST_P(ForeignerTest, ASuccessorWithFewerQueuesIsRefusedBeforeTheDriverComes) {
  sys::UnixSocket front;
  const auto foreigner = Make(kProtocolMq, 2, front);
  auto frontend = Frontend::Connect(loop_, std::move(front), FrontOptions());
  ASSERT_TRUE(frontend.has_value()) << frontend.error().ToString();
  frontend_ = *std::move(frontend);
  sys::UnixSocket next;
  const auto successor = Make(kProtocolMq, 1, next);
  const Status attached = frontend_->Reattach(std::move(next));
  ASSERT_FALSE(attached.has_value());
  EXPECT_EQ(attached.error().kind(), ErrorKind::kUnsupported);
  EXPECT_EQ(frontend_->info().queue_sizes.size(), 2u);
  frontend_.reset();
}

}  // namespace
}  // namespace crosvm::vhost_user

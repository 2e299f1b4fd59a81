// Placing a device: as a thread and as a process, through life, death and succession.
#include "device_host/launch.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <cstdlib>
#include <set>

#include "device_host/device_host.h"
#include "device_host/start_message.h"
#include "event/test_loop.h"
#include "sys/file.h"
#include "testing/child_main.h"
#include "vhost_user/frontend.h"
#include "virtio/testing/driver.h"
#include "virtio/types.h"

namespace crosvm::device_host {
namespace {

using ::testing::HasSubstr;
using virtio::testing::Driver;

constexpr int kStartFd = 3;

CROSVM_CHILD_MAIN(LaunchedDevice) {
  return ChildMain(devices::AllModules());
}
CROSVM_CHILD_MAIN(HungDevice) {
  while (true) pause();
}
CROSVM_CHILD_MAIN(GoneDevice) {
  return 7;
}
CROSVM_CHILD_MAIN(NonsenseDevice) {
  return write(kStartFd, "nonsense", 8) == 8 ? pause() : 1;
}

// Answers with what a device does not look like.
int AnswerWith(const DeviceReady& ready) {
  const codec::Channel<DeviceReady, DeviceStart> channel{sys::UnixSocket(sys::UniqueFd(kStartFd))};
  return channel.Send(ready).has_value() ? pause() : 1;
}
CROSVM_CHILD_MAIN(NoQueuesDevice) {
  return AnswerWith({.device_id = 2, .config_size = 8});
}
CROSVM_CHILD_MAIN(ManyQueuesDevice) {
  return AnswerWith({.device_id = 2, .queue_sizes = std::vector<uint16_t>(300, 64)});
}
CROSVM_CHILD_MAIN(OddQueueDevice) {
  return AnswerWith({.device_id = 2, .queue_sizes = {65535}});
}
CROSVM_CHILD_MAIN(BigConfigDevice) {
  return AnswerWith({.device_id = 2, .queue_sizes = {64}, .config_size = 0xffffffff});
}
CROSVM_CHILD_MAIN(RefusingDevice) {
  return AnswerWith({.error = "the moon is wrong"});
}

// Looks all the time whether its control channel ends, and then writes to its disk.
CROSVM_CHILD_MAIN(WatchfulDevice) {
  codec::Channel<DeviceReady, DeviceStart> channel{sys::UnixSocket(sys::UniqueFd(kStartFd))};
  auto start = channel.Receive();
  if (!start.has_value()) return 1;
  const sys::UniqueFd control = *start->fds.Take(start->message.control);
  std::vector<sys::UniqueFd> resources;
  for (const codec::FdSlot slot : start->message.resources) {
    resources.push_back(*start->fds.Take(slot));
  }
  if (!channel.Send({.device_id = 2, .queue_sizes = {64}, .config_size = 8}).has_value()) return 1;
  while (true) {
    pollfd end{.fd = control.get(), .events = POLLIN, .revents = 0};
    if (poll(&end, 1, 0) == 0) continue;
    for (const sys::UniqueFd& fd : resources) (void)!pwrite(fd.get(), "end", 3, 0);
  }
}

struct BlockHeader {
  uint32_t type;
  uint32_t reserved;
  uint64_t sector;
};

class LaunchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    CROSVM_REQUIRE_USER_NAMESPACES();
    char path[] = "/var/tmp/crosvm-launch-XXXXXX";
    const sys::UniqueFd file(mkostemp(path, O_CLOEXEC));
    ASSERT_TRUE(file.valid());
    path_ = path;
    ASSERT_EQ(ftruncate(file.get(), 4 << 20), 0);
    image_ = *sys::Open(path_, O_RDWR);
    module_ = devices::FindModule("block");
    ASSERT_NE(module_, nullptr);
    Result<devices::PreparedDevice> prepared = module_->prepare(path_);
    ASSERT_TRUE(prepared.has_value()) << prepared.error().ToString();
    prepared_ = std::move(*prepared);
  }
  void TearDown() override { unlink(path_.c_str()); }

  static LaunchOptions Process(const std::string& entry = "LaunchedDevice") {
    return {.label = "block[0]", .best_effort_jail = true, .entry = "--child-main=" + entry};
  }
  static LaunchOptions Thread() { return {.label = "block[0]", .placement = Placement::kThread}; }

  HostedDevice MustLaunch(const LaunchOptions& options) {
    Result<HostedDevice> hosted = Launch(*module_, prepared_, options);
    EXPECT_TRUE(hosted.has_value()) << hosted.error().ToString();
    return hosted.has_value() ? std::move(*hosted) : HostedDevice();
  }
  Error LaunchError(LaunchOptions options) {
    const Result<HostedDevice> hosted = Launch(*module_, prepared_, options);
    EXPECT_FALSE(hosted.has_value());
    return hosted.has_value() ? Error(ErrorKind::kInternal, "launched") : hosted.error().Clone();
  }
  void Start(const LaunchOptions& options) {
    hosted_ = MustLaunch(options);
    EXPECT_EQ(hosted_.info.device_id, 2);
    Result<std::unique_ptr<vhost_user::Frontend>> frontend = vhost_user::Frontend::Connect(
        loop_, std::move(hosted_.vhost_user), {.name = "block[0]", .info = hosted_.info});
    ASSERT_TRUE(frontend.has_value()) << frontend.error().ToString();
    frontend_ = std::move(*frontend);
    frontend_->SetEvents({.config_changed = [this] { ++config_changes_; },
                          .failed = [this](Error) { ++failures_; }});
    const virtio::QueueActivation queue = {.index = 0,
                                           .size = driver_.options().size,
                                           .addresses = driver_.addresses(),
                                           .kick = &driver_.kick(),
                                           .call = &driver_.call()};
    const Status active = frontend_->Activate(driver_.memory(), driver_.features(), {&queue, 1});
    ASSERT_TRUE(active.has_value()) << active.error().ToString();
  }
  uint16_t SubmitWrite(uint64_t sector, char fill) {
    return driver_.Chain()
        .ReadableStruct(BlockHeader{1, 0, sector})
        .Readable(std::string(4096, fill))
        .Writable(1)
        .Submit();
  }
  // Waits for `count` answers; fewer when they do not come.
  size_t Await(size_t count) {
    for (size_t done = 0; done < count; ++done) {
      const std::optional<virtio::testing::Used> used = driver_.AwaitUsed();
      if (!used) return done;
      EXPECT_EQ(used->data.back(), 0);
    }
    return count;
  }
  std::string Control(const devices::ControlRequest& request) {
    EXPECT_TRUE(hosted_.control.Send(request).has_value());
    const auto reply = hosted_.control.Receive();
    EXPECT_TRUE(reply.has_value());
    return reply.has_value() ? reply->message.error : "no reply";
  }

  std::string path_;
  sys::UniqueFd image_;
  const devices::DeviceModule* module_ = nullptr;
  devices::PreparedDevice prepared_;
  event::TestLoop loop_;
  Driver driver_{Driver::MakeMemory(), {.size = 256, .event_idx = true, .area_size = 3 << 20}};
  HostedDevice hosted_;
  std::unique_ptr<vhost_user::Frontend> frontend_;
  int config_changes_ = 0;
  int failures_ = 0;
};

class PlacementTest : public LaunchTest, public ::testing::WithParamInterface<Placement> {
 protected:
  static LaunchOptions Options() { return GetParam() == Placement::kThread ? Thread() : Process(); }
};
INSTANTIATE_TEST_SUITE_P(Placements, PlacementTest,
                         ::testing::Values(Placement::kThread, Placement::kJailed),
                         [](const auto& param) {
                           return param.param == Placement::kThread ? "Thread" : "Process";
                         });

TEST_P(PlacementTest, WorksAndIsControlled) {
  Start(Options());
  if (HasFatalFailure()) return;
  for (uint64_t i = 0; i < 40; ++i) SubmitWrite(i * 8, static_cast<char>('a' + i % 26));
  driver_.Kick();
  EXPECT_EQ(Await(40), 40u);
  std::vector<uint8_t> data(4096);
  ASSERT_TRUE(sys::PreadExact(image_, data, 39 * 4096).has_value());
  EXPECT_EQ(data[17], 'a' + 39 % 26);

  EXPECT_EQ(Control(devices::Ping{}), "");
  EXPECT_EQ(Control(devices::ResizeDisk{.bytes = 8 << 20}), "");
  EXPECT_TRUE(loop_.RunUntil([&] { return config_changes_ == 1; }));
  EXPECT_THAT(Control(devices::SetWindowSize{}), HasSubstr("disk"));
  std::array<uint8_t, 8> capacity{};
  ASSERT_TRUE(frontend_->ReadConfig(0, capacity).has_value());
  EXPECT_EQ(capacity[1], (8 << 20) / 512 >> 8);
  frontend_.reset();
}

TEST_P(PlacementTest, EndsWithRequestsUnderWay) {
  for (int life = 0; life < 5; ++life) {
    Start(Options());
    if (HasFatalFailure()) return;
    for (uint64_t i = 0; i < 64; ++i) SubmitWrite(i * 8, 'x');
    driver_.Kick();
    // In both orders of what the VMM lets go.
    if (life % 2 == 0) hosted_ = HostedDevice();
    frontend_.reset();
    hosted_ = HostedDevice();
    driver_ = Driver(driver_.memory(), driver_.options());
  }
}

TEST_F(LaunchTest, AKilledDeviceIsSucceededAndNothingIsLostOrDoneTwice) {
  Start(Process());
  if (HasFatalFailure()) return;
  size_t submitted = 0;
  size_t done = 0;
  for (int death = 1; death <= 6; ++death) {
    for (uint64_t i = 0; i < 64; ++i) {
      SubmitWrite(i * 8, static_cast<char>('A' + death));
      ++submitted;
    }
    driver_.Kick();
    done += Await(static_cast<size_t>(death) * 8);
    const pid_t pid = hosted_.process.pid();
    ASSERT_TRUE(hosted_.process.Signal(SIGKILL).has_value());
    ASSERT_TRUE(loop_.RunUntil([&] { return failures_ == death; }));
    hosted_ = HostedDevice();
    EXPECT_EQ(kill(pid, 0), -1) << "it was not reaped";
    // What the guest adds meanwhile waits.
    SubmitWrite(64 * 8, static_cast<char>('A' + death));
    ++submitted;
    driver_.Kick();

    hosted_ = MustLaunch(Process());
    const Status attached = frontend_->Reattach(std::move(hosted_.vhost_user));
    ASSERT_TRUE(attached.has_value()) << attached.error().ToString();
    // The driver CHECKs that each answer is to a request that has none yet.
    done += Await(submitted - done);
    ASSERT_EQ(done, submitted);
    ASSERT_EQ(driver_.outstanding(), 0u);
    std::vector<uint8_t> data(4096);
    for (const uint64_t block : {0, 31, 64}) {
      ASSERT_TRUE(sys::PreadExact(image_, data, block * 4096).has_value());
      EXPECT_EQ(data[4095], 'A' + death);
    }
  }
  frontend_.reset();
}

TEST_F(LaunchTest, AssigningAnotherEndsTheFirst) {
  HostedDevice device = MustLaunch(Process());
  const pid_t first = device.process.pid();
  // Stopped: it does not see that its sockets close.
  ASSERT_TRUE(device.process.Signal(SIGSTOP).has_value());
  device = MustLaunch(Process());
  EXPECT_EQ(kill(first, 0), -1);
  EXPECT_EQ(kill(device.process.pid(), 0), 0);
}

// It would clear what its successor is to go on with.
TEST_F(LaunchTest, ADeviceThatIsReplacedSeesNoOrderlyEnd) {
  for (int i = 0; i < 20; ++i) {
    {
      const HostedDevice device = MustLaunch(Process("WatchfulDevice"));
    }
    std::vector<uint8_t> data(3);
    ASSERT_TRUE(sys::PreadExact(image_, data, 0).has_value());
    ASSERT_EQ(data, std::vector<uint8_t>(3)) << "in round " << i;
  }
}

TEST_F(LaunchTest, Hostile_NoAnswer) {
  LaunchOptions options = Process("HungDevice");
  options.start_timeout = std::chrono::milliseconds(50);
  const Error error = LaunchError(options);
  EXPECT_EQ(error.kind(), ErrorKind::kTimedOut);
  EXPECT_THAT(error.ToString(), HasSubstr("50 ms"));
}

TEST_F(LaunchTest, Hostile_EndsAtOnce) {
  EXPECT_THAT(LaunchError(Process("GoneDevice")).ToString(), HasSubstr("exit status 7"));
}

TEST_F(LaunchTest, Hostile_AnswersNonsense) {
  EXPECT_THAT(LaunchError(Process("NonsenseDevice")).ToString(), HasSubstr("answer"));
}

TEST_F(LaunchTest, Hostile_ShapesThatNoDeviceHas) {
  EXPECT_THAT(LaunchError(Process("NoQueuesDevice")).ToString(), HasSubstr("0 queues"));
  EXPECT_THAT(LaunchError(Process("ManyQueuesDevice")).ToString(), HasSubstr("300 queues"));
  EXPECT_THAT(LaunchError(Process("OddQueueDevice")).ToString(), HasSubstr("65535"));
  EXPECT_THAT(LaunchError(Process("BigConfigDevice")).ToString(), HasSubstr("configuration"));
}

TEST_F(LaunchTest, TheDevicesOwnErrorIsReported) {
  EXPECT_THAT(LaunchError(Process("RefusingDevice")).ToString(), HasSubstr("the moon is wrong"));
  prepared_.start = {0xff};
  EXPECT_THAT(LaunchError(Process()).ToString(), HasSubstr("CBOR"));
  EXPECT_FALSE(Launch(*module_, prepared_, Thread()).has_value());
}

}  // namespace
}  // namespace crosvm::device_host

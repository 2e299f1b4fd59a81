// Every device in its own process, in its jail and under its policy, through its whole life.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>

#include "device_host/device_host.h"
#include "device_host/launch.h"
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

CROSVM_CHILD_MAIN(Device) {
  return ChildMain(devices::AllModules());
}

LaunchOptions Options(const std::string& label) {
  return {.label = label, .entry = "--child-main=Device"};
}

// A directory for images and outputs, removed with what is in it by name.
class DeviceJailTest : public ::testing::Test {
 protected:
  void SetUp() override {
    CROSVM_REQUIRE_USER_NAMESPACES();
    char path[] = "/tmp/crosvm-device-XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    directory_ = path;
  }
  void TearDown() override {
    for (const char* name : {"image", "output", "block.policy", "block.bpf"}) {
      unlink((directory_ + "/" + name).c_str());
    }
    rmdir(directory_.c_str());
  }

  // From the device's option to a connected front-end.
  void Start(std::string_view name, const std::string& option,
             LaunchOptions options = Options("device[0]")) {
    const devices::DeviceModule* const module = devices::FindModule(name);
    ASSERT_NE(module, nullptr);
    Result<devices::PreparedDevice> prepared = module->prepare(option);
    ASSERT_TRUE(prepared.has_value()) << prepared.error().ToString();
    Result<HostedDevice> hosted = Launch(*module, *prepared, options);
    ASSERT_TRUE(hosted.has_value()) << hosted.error().ToString();
    hosted_ = std::move(*hosted);
    Result<std::unique_ptr<vhost_user::Frontend>> frontend = vhost_user::Frontend::Connect(
        loop_, std::move(hosted_.vhost_user), {.name = "device[0]", .info = hosted_.info});
    ASSERT_TRUE(frontend.has_value()) << frontend.error().ToString() << Ended();
    frontend_ = std::move(*frontend);
  }

  void ActivateQueue(uint16_t index, Driver& driver) {
    const virtio::QueueActivation queue = {.index = index,
                                           .size = driver.options().size,
                                           .addresses = driver.addresses(),
                                           .kick = &driver.kick(),
                                           .call = &driver.call()};
    const Status active = frontend_->Activate(memory_, driver.features(), {&queue, 1});
    ASSERT_TRUE(active.has_value()) << active.error().ToString() << Ended();
  }

  // Closes the device's sockets; how its process ended and what it had to say.
  std::string End() {
    frontend_.reset();
    hosted_.control = ControlChannel();
    const Result<sys::ExitStatus> status = hosted_.process.Wait();
    const std::string how = status.has_value() ? status->ToString() : status.error().ToString();
    hosted_.process = sys::PidFd();
    return how + hosted_.last_words.Read();
  }
  std::string Ended() { return "; " + hosted_.last_words.Read(); }

  Driver MakeDriver(uint64_t area, uint64_t extra = 0) {
    return Driver(
        memory_,
        {.size = 64, .event_idx = true, .area = memory::GuestAddr(area), .extra_features = extra});
  }

  std::string directory_;
  memory::GuestMemory memory_ = Driver::MakeMemory();
  event::TestLoop loop_;
  HostedDevice hosted_;
  std::unique_ptr<vhost_user::Frontend> frontend_;
};

struct BlockHeader {
  uint32_t type;
  uint32_t reserved;
  uint64_t sector;
};

class BlockJailTest : public DeviceJailTest, public ::testing::WithParamInterface<const char*> {};

INSTANTIATE_TEST_SUITE_P(Engines, BlockJailTest, ::testing::Values("pool", "io_uring"),
                         [](const auto& param) { return std::string(param.param); });

TEST_P(BlockJailTest, LivesUnderItsPolicy) {
  const std::string image = directory_ + "/image";
  {
    const sys::UniqueFd file = *sys::Open(image, O_CREAT | O_RDWR, 0600);
    ASSERT_EQ(ftruncate(file.get(), 1 << 20), 0);
  }
  Start("block", fmt::format("{},engine={}", image, GetParam()));
  if (HasFatalFailure()) return;
  EXPECT_TRUE(hosted_.layers.Has(jail::Layer::kSeccomp)) << hosted_.layers.ToString();
  EXPECT_GT(hosted_.allowed_calls, 20);
  std::vector<uint8_t> config(8);
  ASSERT_TRUE(frontend_->ReadConfig(0, config).has_value());
  EXPECT_EQ(config[1], 8);  // 2048 sectors

  for (int life = 0; life < 2; ++life) {
    Driver driver = MakeDriver(0x1000 + 0x100000 * static_cast<uint64_t>(life),
                               (uint64_t{1} << 9) | (uint64_t{1} << 13));
    ActivateQueue(0, driver);
    if (HasFatalFailure()) return;
    const std::string data(4096, static_cast<char>('a' + life));
    for (uint64_t batch = 0; batch < 5; ++batch) {
      for (uint64_t i = 0; i < 8; ++i) {
        const BlockHeader header{1, 0, (batch * 8 + i) * 8};
        driver.Chain().ReadableStruct(header).Readable(data).Writable(1).Submit();
      }
      driver.Kick();
      for (int i = 0; i < 8; ++i) {
        const auto used = driver.AwaitUsed();
        ASSERT_TRUE(used.has_value()) << Ended();
        ASSERT_EQ(used->data.back(), 0);
      }
    }
    for (const uint32_t type : {uint32_t{4}, uint32_t{0}}) {  // flush, read
      auto chain = driver.Chain();
      chain.ReadableStruct(BlockHeader{type, 0, 8});
      if (type == 0) chain.Writable(4096);
      chain.Writable(1).Submit();
      driver.Kick();
      const auto used = driver.AwaitUsed();
      ASSERT_TRUE(used.has_value()) << Ended();
      EXPECT_EQ(used->data.back(), 0) << type;
    }
    // Discard and write zeroes: one segment of 8 sectors.
    for (const uint32_t type : {11U, 13U}) {
      struct {
        uint64_t sector;
        uint32_t sectors;
        uint32_t flags;
      } segment = {16, 8, 0};
      driver.Chain()
          .ReadableStruct(BlockHeader{type, 0, 0})
          .ReadableStruct(segment)
          .Writable(1)
          .Submit();
      driver.Kick();
      const auto used = driver.AwaitUsed();
      ASSERT_TRUE(used.has_value()) << Ended();
    }
    const Status stopped = frontend_->Deactivate();
    ASSERT_TRUE(stopped.has_value()) << stopped.error().ToString() << Ended();
  }
  EXPECT_EQ(End(), "exit status 0");
}

TEST_F(DeviceJailTest, RngLivesUnderItsPolicy) {
  Start("rng", "");
  if (HasFatalFailure()) return;
  for (int life = 0; life < 2; ++life) {
    Driver driver = MakeDriver(0x1000 + 0x100000 * static_cast<uint64_t>(life));
    ActivateQueue(0, driver);
    if (HasFatalFailure()) return;
    for (int i = 0; i < 20; ++i) {
      driver.Chain().Writable(300).Submit();
      driver.Kick();
      const auto used = driver.AwaitUsed();
      ASSERT_TRUE(used.has_value()) << Ended();
      EXPECT_GT(used->written, 0U);
    }
    ASSERT_TRUE(frontend_->Deactivate().has_value()) << Ended();
  }
  EXPECT_EQ(End(), "exit status 0");
}

TEST_F(DeviceJailTest, ConsoleLivesUnderItsPolicy) {
  const std::string output = directory_ + "/output";
  Start("console", "type=file,path=" + output);
  if (HasFatalFailure()) return;
  Driver driver = MakeDriver(0x1000);
  ActivateQueue(1, driver);
  if (HasFatalFailure()) return;
  for (int i = 0; i < 20; ++i) {
    driver.Chain().Readable("line\n").Submit();
    driver.Kick();
    ASSERT_TRUE(driver.AwaitUsed().has_value()) << Ended();
  }
  ASSERT_TRUE(frontend_->Deactivate().has_value()) << Ended();
  EXPECT_EQ(End(), "exit status 0");
  EXPECT_EQ(sys::ReadFileToString(output)->size(), 100U);
}

TEST_F(DeviceJailTest, APolicyFromADirectoryIsUsedInstead) {
  const sys::UniqueFd policy = *sys::Open(directory_ + "/block.policy", O_CREAT | O_WRONLY, 0600);
  ASSERT_TRUE(sys::WriteAll(policy, "read: 1\n@nonsense\n").has_value());
  const std::string image = directory_ + "/image";
  {
    const sys::UniqueFd file = *sys::Open(image, O_CREAT | O_RDWR, 0600);
    ASSERT_EQ(ftruncate(file.get(), 1 << 20), 0);
  }
  const devices::DeviceModule& module = *devices::FindModule("block");
  const devices::PreparedDevice prepared = *module.prepare(image);
  const auto broken = jail::LoadOverride(directory_, "block");
  ASSERT_FALSE(broken.has_value());
  EXPECT_THAT(broken.error().ToString(), HasSubstr("block.policy:2: @nonsense is not one of"));

  ASSERT_EQ(ftruncate(policy.get(), 8), 0);  // only "read: 1": it cannot even say that it is ready
  LaunchOptions options = Options("block[0]");
  options.policy_override = *jail::LoadOverride(directory_, "block");
  const Result<HostedDevice> mute = Launch(module, prepared, options);
  ASSERT_FALSE(mute.has_value());

  // Without a filter at all, but with failures made and logged, the device works.
  options.seccomp_log_failures = true;
  const Result<HostedDevice> logged = Launch(module, prepared, options);
  ASSERT_TRUE(logged.has_value()) << logged.error().ToString();
  EXPECT_THAT(
      logged->last_words.Read(),
      HasSubstr("block[0] (pid 1, thread 1 'block[0]'): not allowed, but made as failures are only "
                "logged: "));
}

// A filter that denies recvmsg, which no device can do without, and otherwise is the module's own.
std::vector<sock_filter> WithoutRecvmsg(std::span<const sock_filter> code) {
  std::vector<sock_filter> out = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_recvmsg, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, jail::kReturnDenied),
  };
  out.insert(out.end(), code.begin(), code.end());
  return out;
}

// The numbers of a report replaced: registers and addresses differ from run to run.
std::string WithoutNumbers(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text.compare(i, 2, "0x") != 0) {
      out += text[i];
      continue;
    }
    out += "0x#";
    ++i;
    while (i + 1 < text.size() && isxdigit(static_cast<unsigned char>(text[i + 1])) != 0) ++i;
  }
  return out;
}

class DenialTest : public DeviceJailTest, public ::testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Devices, DenialTest, ::testing::Values("block", "rng", "console"),
                         [](const auto& param) { return std::string(param.param); });

TEST_P(DenialTest, IsReportedInTheLastWords) {
  const std::string name = GetParam();
  std::string option;
  if (name == "block") {
    option = directory_ + "/image";
    const sys::UniqueFd file = *sys::Open(option, O_CREAT | O_RDWR, 0600);
    ASSERT_EQ(ftruncate(file.get(), 1 << 20), 0);
  } else if (name == "console") {
    option = "type=file,path=" + directory_ + "/output";
  }
  const devices::DeviceModule& module = *devices::FindModule(name);
  const devices::PreparedDevice prepared = *module.prepare(option);
  LaunchOptions options = Options(name + "[0]");
  options.policy_override = WithoutRecvmsg(module.policy.code);
  HostedDevice hosted = *Launch(module, prepared, options);
  // Its sockets become readable: it must receive, and may not.
  ASSERT_TRUE(hosted.control.Send(devices::Ping{}).has_value());
  const Result<sys::ExitStatus> status = hosted.process.Wait();
  ASSERT_TRUE(status.has_value());
  EXPECT_TRUE(status->signaled && status->code == SIGSYS) << status->ToString();
  const std::string words = hosted.last_words.Read();
  hosted.process = sys::PidFd();
  const std::string golden = fmt::format(
      "{0}[0] (pid 1, thread 1 '{0}[0]'): denied system call recvmsg(0x#, 0x#, 0x#, 0x#, 0x#, 0x#) "
      "at ",
      name);
  EXPECT_EQ(WithoutNumbers(words).substr(0, golden.size()), golden) << words;
  EXPECT_THAT(words, HasSubstr("+0x"));  // an address in a program or library
  EXPECT_THAT(words, HasSubstr("\n  rule that allows it: recvmsg: 1   (in the "
                               "--seccomp-policy-dir override)\n  called from: "));
}

}  // namespace
}  // namespace crosvm::device_host

// The program as its user sees it: output and exit status, with the VM replaced by a fake.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <thread>

#include "cli/commands.h"
#include "cli/doctor.h"
#include "codec/json.h"
#include "control/server.h"
#include "sys/file.h"

namespace crosvm::cli {
namespace {

config::VmConfig seen_config;
std::string seen_device;

Result<int> FakeRunVm(const config::VmConfig& config) {
  seen_config = config;
  return kExitReset;
}
Result<int> FakeRunDevice(std::string_view name, const std::string& socket,
                          std::string_view option) {
  seen_device = fmt::format("{} {} {}", name, socket, option);
  return 0;
}
std::vector<DeviceInfo> FakeDevices() {
  return {{"block", "a disk", "  ro  read only"}, {"rng", "entropy", ""}};
}

struct Outcome {
  int status;
  std::string out;
  std::string err;
};

std::string Contents(const sys::UniqueFd& file) {
  std::vector<uint8_t> bytes(sys::FileSize(file).value());
  EXPECT_TRUE(sys::PreadExact(file, bytes, 0));
  return {bytes.begin(), bytes.end()};
}

Outcome Crosvm(std::vector<std::string_view> arguments) {
  const sys::UniqueFd out(memfd_create("out", MFD_CLOEXEC));
  const sys::UniqueFd err(memfd_create("err", MFD_CLOEXEC));
  const Hooks hooks = {&FakeRunVm, &FakeRunDevice, &FakeDevices};
  const int status = RunApp(arguments, hooks, out, err);
  return {status, Contents(out), Contents(err)};
}

TEST(App, RunHandsOverAValidConfiguration) {
  const Outcome outcome = Crosvm({"run", "--kvm-device=/dev/null", "-c2", "/proc/self/exe"});
  EXPECT_EQ(outcome.status, kExitReset) << outcome.err;
  EXPECT_EQ(seen_config.kernel, "/proc/self/exe");
  EXPECT_EQ(seen_config.cpus, 2u);
  EXPECT_EQ(seen_config.serial.size(), 4u);
}

TEST(App, BadArgumentsAreStatus35AndOneSentence) {
  const auto expect = [](std::vector<std::string_view> arguments, std::string_view err) {
    const Outcome outcome = Crosvm(std::move(arguments));
    EXPECT_EQ(outcome.status, kExitBadArguments);
    EXPECT_EQ(outcome.err, err);
  };
  expect({"run"},
         "crosvm run: there is nothing to boot: give the path of a KERNEL, or --bios PATH\n");
  expect({"run", "--cpus=x", "k"}, "crosvm run: --cpus x: \"x\" is not a whole number\n");
  expect({"run", "--kvm-device=/dev/null", "/nonexistent"},
         "crosvm run: kernel /nonexistent: no such file or directory\n");
  expect({"run", "k", "l"},
         "crosvm run: \"l\" is one argument too many; usage: crosvm run [OPTIONS] [KERNEL]\n");
  expect({"rum"},
         "crosvm: \"rum\" is not a command (did you mean run?); `crosvm help` lists them\n");
  expect({"stop"}, "crosvm stop: an argument is missing; usage: crosvm stop SOCKET\n");
  expect({"run", "--log-level=loud", "--kvm-device=/dev/null", "/proc/self/exe"},
         Crosvm({"run", "--log-level=loud", "--kvm-device=/dev/null", "/proc/self/exe"}).err);
}

TEST(App, DumpConfigIsReadBack) {
  const Outcome outcome = Crosvm({"run", "--dump-config", "-m64", "vmlinuz"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  config::VmConfig config;
  ASSERT_TRUE(config::LoadConfigText(outcome.out, "dump", config));
  EXPECT_EQ(config.mem_mib, 64u);
}

TEST(App, HelpAndVersion) {
  EXPECT_EQ(Crosvm({}).out, Overview());
  EXPECT_EQ(Crosvm({"help"}).out, Overview());
  EXPECT_EQ(Crosvm({"run", "--help"}).out, Crosvm({"help", "run"}).out);
  EXPECT_TRUE(Crosvm({"version"}).out.starts_with("crosvm 0."));
  for (const Command& command : Commands()) {
    const Outcome outcome = Crosvm({command.name, "--help"});
    EXPECT_EQ(outcome.status, 0);
    EXPECT_NE(outcome.out.find("Usage: crosvm "), std::string::npos);
  }
}

// The golden file holds what a user reads; regenerate with CROSVM_UPDATE_GOLDEN=1 and look at the
// difference.
TEST(App, HelpOfRunIsAsReviewed) {
  const std::string golden = std::string(CROSVM_SOURCE_DIR) + "/src/cli/testdata/run_help.txt";
  const std::string help = Crosvm({"run", "--help"}).out;
  if (getenv("CROSVM_UPDATE_GOLDEN") != nullptr) {
    const sys::UniqueFd file = sys::Open(golden, O_WRONLY | O_CREAT | O_TRUNC, 0644).value();
    ASSERT_TRUE(sys::WriteAll(file, help));
  }
  EXPECT_EQ(help, sys::ReadFileToString(golden).value());
}

TEST(App, Device) {
  EXPECT_NE(Crosvm({"device"}).out.find("block - a disk"), std::string::npos);
  EXPECT_EQ(Crosvm({"device", "block", "--socket-path", "/s", "img,ro"}).status, 0);
  EXPECT_EQ(seen_device, "block /s img,ro");
  EXPECT_EQ(
      Crosvm({"device", "blok", "--socket-path", "/s"}).err,
      "crosvm device: there is no device \"blok\" (did you mean block?); `crosvm device` lists "
      "them\n");
  EXPECT_EQ(Crosvm({"device", "blok", "--socket-path", "/s"}).status, 35);
  EXPECT_EQ(Crosvm({"device", "block"}).status, 35);
}

TEST(App, CompletionNamesEveryCommandAndBuiltOption) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const std::string script = Crosvm({"completion", shell}).out;
    EXPECT_NE(script.find("shared-dir"), std::string::npos) << shell;
    EXPECT_NE(script.find("powerbtn"), std::string::npos) << shell;
    EXPECT_EQ(script.find("wayland"), std::string::npos) << shell;
  }
  EXPECT_EQ(Crosvm({"completion", "tcsh"}).status, 35);
}

// A VM's control socket on its own thread.
class VmCommands : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = fmt::format("/tmp/crosvm_cli_test_{}.sock", getpid());
    unlink(path_.c_str());
    loop_ = std::move(event::EventLoop::Create().value());
    auto listener = sys::UnixListener::Bind(path_, sys::SocketType::kSeqPacket).value();
    server_ =
        control::Server::Create(*loop_, std::move(listener),
                                [this](const control::Request& request) { return Answer(request); })
            .value();
    thread_ = std::thread([this] { EXPECT_TRUE(loop_->Run()); });
  }
  void TearDown() override {
    loop_->Stop();
    thread_.join();
    server_.reset();
  }
  control::Response Answer(const control::Request& request) {
    last_ = codec::ToJson(request);
    if (last_ == R"("Ps")")
      return control::ProcessList{.vm_state = "running",
                                  .vcpus = 2,
                                  .processes = {{.name = "block[0]",
                                                 .role = "device",
                                                 .pid = 12,
                                                 .state = "running",
                                                 .restarts = 1}}};
    if (last_ == R"("Resume")") return control::Err{EBUSY};
    if (last_ == R"({"BalloonCommand":"Stats"})")
      return control::BalloonReport{.balloon_actual = 9};
    return control::Ok{};
  }

  std::string path_;
  std::string last_;
  std::unique_ptr<event::EventLoop> loop_;
  std::unique_ptr<control::Server> server_;
  std::thread thread_;
};

TEST_F(VmCommands, SendTheirRequests) {
  const auto sent = [&](std::vector<std::string_view> words) {
    words.push_back(path_);
    const Outcome outcome = Crosvm(words);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return last_;
  };
  EXPECT_EQ(sent({"stop"}), R"("Exit")");
  EXPECT_EQ(sent({"suspend"}), R"("Suspend")");
  EXPECT_EQ(sent({"powerbtn"}), R"("Powerbtn")");
  EXPECT_EQ(sent({"balloon", "1M"}), R"({"BalloonCommand":{"Adjust":{"num_bytes":1048576}}})");
  EXPECT_EQ(sent({"disk", "resize", "1", "4096"}),
            R"({"DiskCommand":{"disk_index":1,"command":{"Resize":{"new_size":4096}}}})");
}

TEST_F(VmCommands, PrintAnswers) {
  EXPECT_NE(Crosvm({"ps", path_}).out.find("block[0]"), std::string::npos);
  EXPECT_NE(Crosvm({"ps", "--json", path_}).out.find("\"restarts\": 1"), std::string::npos);
  EXPECT_NE(Crosvm({"balloon_stats", path_}).out.find("\"balloon_actual\": 9"), std::string::npos);
}

TEST_F(VmCommands, RefusalsAreErrors) {
  const Outcome outcome = Crosvm({"resume", path_});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_TRUE(outcome.err.starts_with("crosvm resume: the VM refused: ")) << outcome.err;
  EXPECT_EQ(Crosvm({"stop", "/nonexistent.sock"}).status, 1);
  EXPECT_EQ(Crosvm({"powerbtn", "--wait", "1", path_}).status, 1);
}

TEST(Doctor, FindsTheHardwareFlag) {
  EXPECT_EQ(HardwareFlag("x\nflags\t\t: fpu vmx sse\n"), "vmx");
  EXPECT_EQ(HardwareFlag("x\nflags\t\t: fpu svm\n"), "svm");
  EXPECT_EQ(HardwareFlag("x\nflags\t\t: fpu svm_lock novmx vmxe\n"), "");
  EXPECT_EQ(HardwareFlag("x\nvmx flags\t: vnmi\n"), "");
}

TEST(Doctor, JsonAndTableAgree) {
  const Outcome json = Crosvm({"doctor", "--json"});
  const Diagnosis diagnosis = codec::FromJson<Diagnosis>(json.out).value();
  EXPECT_GT(diagnosis.findings.size(), 10u);
  EXPECT_EQ(json.status, diagnosis.worst() == Health::kBroken ? 1 : 0);
  const std::string table = Crosvm({"doctor"}).out;
  for (const Finding& finding : diagnosis.findings) {
    EXPECT_NE(table.find(finding.check), std::string::npos) << finding.check;
    EXPECT_TRUE(finding.health != Health::kOk || finding.fix.empty()) << finding.check;
  }
}

TEST(Wrap, BreaksAtBlanks) {
  EXPECT_EQ(Wrap("aa bb cc", 2, 7), "aa bb\n  cc");
  EXPECT_EQ(Wrap("aaaaaaaaaa b", 0, 4), "aaaaaaaaaa\nb");
  EXPECT_EQ(Wrap("", 0, 4), "");
}

}  // namespace
}  // namespace crosvm::cli

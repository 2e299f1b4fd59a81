// The server below the FUSE client of this machine's own kernel, through /dev/fuse: the cases of
// tests/e2e/programs/posix, natively. Needs root and /dev/fuse.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "base/check.h"
#include "devices/fs/fuse_driver.h"

namespace crosvm::devices::fs {
namespace {

constexpr size_t kBuffer = kMaxTransfer + 65536;

sys::UniqueFd MountFuse(const std::string& place) {
  sys::UniqueFd device = std::move(*sys::Open("/dev/fuse", O_RDWR));
  const std::string data = fmt::format(
      "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", device.get());
  EXPECT_EQ(mount("crosvm", place.c_str(), "fuse.crosvm", 0, data.c_str()), 0) << strerror(errno);
  return device;
}

// Serves requests until the file system is unmounted, or so many.
void ServeRequests(FuseDriver& driver, sys::BorrowedFd device, unsigned most = 0) {
  std::vector<char> request(kBuffer);
  for (unsigned served = 0; most == 0 || served < most; ++served) {
    const ssize_t got = read(device.get(), request.data(), request.size());
    if (got < 0 && errno == ENODEV) return;  // unmounted
    if (got < 0) continue;                   // interrupted before it was read
    const std::vector<char> answer = driver.Pass({request.data(), static_cast<size_t>(got)});
    // ENOENT: nobody waits for it any more.
    EXPECT_TRUE(answer.empty() || write(device.get(), answer.data(), answer.size()) >= 0 ||
                errno == ENOENT)
        << strerror(errno);
    driver.Answered();
  }
}

// A mount of a directory, served by a thread until it is gone.
class KernelMount {
 public:
  KernelMount(const std::string& directory, std::string place, const FuseDriverOptions& options)
      : driver_(directory, options), place_(std::move(place)), device_(MountFuse(place_)) {
    server_ = std::thread([this] {
      ASSERT_TRUE(shared_dir::EnterWorkerThread(driver_.share().self_fds()).has_value());
      ServeRequests(driver_, device_);
    });
  }
  ~KernelMount() {
    umount2(place_.c_str(), MNT_DETACH);
    server_.join();
  }

 private:
  FuseDriver driver_;
  const std::string place_;
  const sys::UniqueFd device_;
  std::thread server_;
};

// A mount whose server is a process that is killed (SIGKILL) and followed by another every few
// milliseconds, as the VMM does for its guests: with the same memory, and what was in flight again.
class KilledMount {
 public:
  KilledMount(const std::string& directory, std::string place, const FuseDriverOptions& options)
      : driver_(directory, options), place_(std::move(place)), device_(MountFuse(place_)) {
    void* const shared =
        mmap(nullptr, sizeof(State), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    state_ = new (shared) State;
    supervisor_ = fork();
    if (supervisor_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Supervise();
    _exit(0);
  }
  unsigned kills() const { return state_->kills; }
  // Gives how many were killed.
  unsigned End() {
    state_->stop = true;
    umount2(place_.c_str(), MNT_DETACH);
    waitpid(supervisor_, nullptr, 0);
    return state_->kills;
  }

 private:
  struct State {
    std::atomic<bool> stop{false};
    std::atomic<unsigned> kills{0};
    std::atomic<bool> served{false};  // this server has answered a request
  };

  pid_t StartServer() {
    state_->served = false;
    const pid_t child = fork();
    if (child != 0) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    driver_.Restart();
    // Whatever the predecessor had in hand comes once more.
    const fuse_out_header again{
        .len = sizeof(fuse_out_header), .error = kNotifyResend, .unique = 0};
    if (write(device_.get(), &again, sizeof(again)) < 0) _exit(1);
    ServeRequests(driver_, device_, 1);
    state_->served = true;
    ServeRequests(driver_, device_);
    _exit(0);
  }
  void Supervise() {
    std::mt19937 random(1);
    while (true) {
      const pid_t server = StartServer();
      // Some die maybe before they serve anything; with the others, which then have their time, the
      // load goes on however slow the machine is.
      const bool early = random() % 4 == 0;
      while (!early && !state_->served && !state_->stop) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(40 + random() % 40));
      if (state_->stop) {
        waitpid(server, nullptr, 0);
        return;
      }
      kill(server, SIGKILL);
      waitpid(server, nullptr, 0);
      ++state_->kills;
    }
  }

  static constexpr int kNotifyResend = 7;  // FUSE_NOTIFY_RESEND, Linux 6.9
  FuseDriver driver_;
  const std::string place_;
  const sys::UniqueFd device_;
  State* state_ = nullptr;
  pid_t supervisor_ = 0;
};

struct Kind {
  const char* name;  // as in deviations.txt
  ServerOptions server;
};

void PrintTo(const Kind& kind, std::ostream* out) {
  *out << kind.name;
}

constexpr char kPrograms[] = CROSVM_SOURCE_DIR "/tests/e2e/programs";

// The cases that may and must fail with this kind of share: lines of `CASE KIND…`.
std::set<std::string> Deviations(const std::string& kind) {
  std::set<std::string> cases;
  std::ifstream file(std::string(kPrograms) + "/posix/deviations.txt");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    words >> name;
    for (std::string word; words >> word;) {
      if (word == kind && name != "#") cases.insert(name);
    }
  }
  return cases;
}

std::string OutputOf(const std::string& command) {
  std::string output;
  EXPECT_EQ(chdir("/"), 0);  // a driver leaves the thread that made it where no shell can start
  FILE* const pipe = popen((command + " 2>&1").c_str(), "r");
  CHECK(pipe != nullptr);
  char part[4096];
  while (fgets(part, sizeof(part), pipe) != nullptr) output += part;
  pclose(pipe);
  return output;
}

std::string Build(const std::string& sources, const std::string& program) {
  const std::string command =
      fmt::format("cc -static -O1 -D_GNU_SOURCE -o {} {}/{}", program, kPrograms, sources);
  EXPECT_EQ(OutputOf(command), "");
  return program;
}

class KernelTest : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (geteuid() != 0 || access("/dev/fuse", R_OK) != 0) {
      GTEST_SKIP() << "needs root and /dev/fuse";
    }
    for (const char* name : {"below", "local", "mnt"}) {
      ASSERT_EQ(mkdir((dir_ / name).c_str(), 0755), 0);
    }
    ASSERT_EQ(chmod(dir_.path().c_str(), 0755), 0);
  }
  FuseDriverOptions Options() const {
    FuseDriverOptions options{.server = GetParam().server, .init = false};
    options.server.posix_acl = true;
    return options;
  }

  const TestDirectory dir_;
};

std::set<std::string> Failures(const std::string& output) {
  std::set<std::string> failed;
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("FAIL ")) failed.insert(line.substr(5, line.find(':') - 5));
  }
  EXPECT_NE(output.find(" passed, "), std::string::npos);
  return failed;
}

TEST_P(KernelTest, PosixCases) {
  const std::string cases = Build("posix/*.c", dir_ / "cases");
  const KernelMount mount(dir_ / "below", dir_ / "mnt", Options());
  const std::string output = OutputOf(cases + " " + (dir_ / "mnt"));
  std::set<std::string> failed = Failures(output);
  std::set<std::string> listed = Deviations(GetParam().name);
  // What the file system here does not have, the share has not either.
  for (const std::string& name : Failures(OutputOf(cases + " " + (dir_ / "local")))) {
    failed.erase(name);
    listed.erase(name);
  }
  EXPECT_EQ(failed, listed) << output;
}

// Random operations with a model, while one server after another is killed: again with other
// operations until there were enough deaths, for how many a round sees is the machine's pace.
TEST_P(KernelTest, LoadsUnderKills) {
  utsname kernel{};
  uname(&kernel);
  if (strverscmp(kernel.release, "6.9") < 0) GTEST_SKIP() << "the kernel does not send again";
  const char* const kills_text = getenv("CROSVM_TORTURE_KILLS");
  const unsigned enough = kills_text == nullptr ? 8 : static_cast<unsigned>(atoi(kills_text));
  const std::string fsx = Build("fsx.c", dir_ / "fsx");
  const std::string storm = Build("name_storm.c", dir_ / "name_storm");
  KilledMount mount(dir_ / "below", dir_ / "mnt", Options());
  for (unsigned seed = 1; mount.kills() < enough && !HasFailure(); ++seed) {
    const std::string data = OutputOf(fmt::format("{} {}/file {} 500", fsx, dir_ / "mnt", seed));
    EXPECT_NE(data.find("are right"), std::string::npos) << data;
    const std::string field = fmt::format("{}/storm{}", dir_ / "mnt", seed);
    EXPECT_EQ(mkdir(field.c_str(), 0755), 0) << strerror(errno);
    const std::string names = OutputOf(fmt::format("{} {} 1 32 15 {}", storm, field, seed));
    EXPECT_NE(names.find("are right"), std::string::npos) << names;
    EXPECT_EQ(OutputOf("rm -r " + field), "");
  }
  RecordProperty("kills", static_cast<int>(mount.End()));
}

INSTANTIATE_TEST_SUITE_P(
    Caches, KernelTest,
    ::testing::Values(Kind{"never", {.cache = Cache::kNever}},
                      Kind{"auto", {.cache = Cache::kAuto}},
                      Kind{"always", {.cache = Cache::kAlways, .timeout = 3600}},
                      Kind{"back", {.cache = Cache::kAlways, .timeout = 3600, .writeback = true}}),
    [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace crosvm::devices::fs

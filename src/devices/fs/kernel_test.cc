// The server below the FUSE client of this machine's own kernel, through /dev/fuse: the cases of
// tests/e2e/programs/posix, natively. Needs root and /dev/fuse.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "devices/fs/fuse_driver.h"

namespace crosvm::devices::fs {
namespace {

constexpr size_t kBuffer = kMaxTransfer + 65536;

// A mount of a directory, served by threads until it is gone.
class KernelMount {
 public:
  // With `life` each server is replaced by another after so many requests.
  KernelMount(const std::string& directory, std::string place, const FuseDriverOptions& options,
              unsigned life = 0)
      : driver_(directory, options), place_(std::move(place)), life_(life) {
    device_ = std::move(*sys::Open("/dev/fuse", O_RDWR));
    const std::string data = fmt::format(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", device_.get());
    mounted_ = mount("crosvm", place_.c_str(), "fuse.crosvm", 0, data.c_str()) == 0;
    EXPECT_TRUE(mounted_) << strerror(errno);
    if (mounted_) server_ = std::thread([this] { Serve(); });
  }
  ~KernelMount() {
    if (!mounted_) return;
    umount2(place_.c_str(), MNT_DETACH);
    server_.join();
  }

 private:
  void Serve() {
    ASSERT_TRUE(shared_dir::EnterWorkerThread(driver_.share().self_fds()).has_value());
    std::vector<char> request(kBuffer);
    for (unsigned served = 0;; ++served) {
      if (life_ != 0 && served % life_ == life_ - 1) driver_.Restart();
      const ssize_t got = read(device_.get(), request.data(), request.size());
      if (got < 0 && errno == ENODEV) return;  // unmounted
      if (got < 0) continue;                   // interrupted before it was read
      const std::vector<char> answer = driver_.Pass({request.data(), static_cast<size_t>(got)});
      if (answer.empty()) continue;
      // ENOENT: nobody waits for it any more.
      EXPECT_TRUE(write(device_.get(), answer.data(), answer.size()) >= 0 || errno == ENOENT)
          << strerror(errno);
    }
  }

  FuseDriver driver_;
  const std::string place_;
  const unsigned life_;
  sys::UniqueFd device_;
  bool mounted_ = false;
  std::thread server_;
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
  FILE* const pipe = popen((command + " 2>&1").c_str(), "r");
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

// Random operations with a model, while one server after another takes over.
TEST_P(KernelTest, LoadsOverSuccessors) {
  const std::string fsx = Build("fsx.c", dir_ / "fsx");
  const std::string storm = Build("name_storm.c", dir_ / "name_storm");
  const KernelMount mount(dir_ / "below", dir_ / "mnt", Options(), 50);
  const std::string data = OutputOf(fmt::format("{} {}/file 1 800", fsx, dir_ / "mnt"));
  EXPECT_NE(data.find("are right"), std::string::npos) << data;
  const std::string names = OutputOf(fmt::format("{} {} 1 32 20 2", storm, dir_ / "mnt"));
  EXPECT_NE(names.find("are right"), std::string::npos) << names;
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

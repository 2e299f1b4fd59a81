#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "jail/confine.h"
#include "jail/confine_vmm.h"
#include "jail/spawn.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "testing/child_main.h"

namespace crosvm::jail {
namespace {

// Runs a registered child in a jail, with one end of a seqpacket pair as descriptor 3, and returns
// what it sent.
std::string RunJailed(const std::string& child, std::vector<sys::BorrowedFd> more = {},
                      const std::string& argument = "") {
  auto [ours, theirs] = *sys::UnixSocket::Pair(sys::SocketType::kSeqPacket);
  std::vector<sys::BorrowedFd> inherit = {theirs.fd()};
  inherit.insert(inherit.end(), more.begin(), more.end());
  Result<Spawned> spawned =
      Spawn({.argv = {"jailed", "--child-main=" + child, argument}, .inherit = inherit});
  if (!spawned.has_value()) return "spawn: " + spawned.error().ToString();
  theirs = sys::UnixSocket();
  std::vector<uint8_t> buffer(4096);
  const Result<sys::Received> received = ours.Receive(buffer);
  const Result<sys::ExitStatus> status = spawned->process.Wait();
  if (!received.has_value() || received->bytes == 0) {
    return "no answer, " + (status.has_value() ? status->ToString() : status.error().ToString());
  }
  return std::string(buffer.begin(), buffer.begin() + static_cast<long>(received->bytes));
}

int Report(const std::string& text) {
  return write(3, text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : 1;
}

CROSVM_CHILD_MAIN(Confined) {
  const Result<Layers> layers = Confine({.namespaces = Layers::All()});
  if (!layers.has_value()) return Report(layers.error().ToString());
  std::string problems;
  const auto expect = [&](bool holds, const char* what) {
    if (!holds) problems += std::string(what) + "; ";
  };
  expect(open("/etc/passwd", O_RDONLY) < 0 && errno == ENOENT, "host file visible");
  expect(open("/proc/self/status", O_RDONLY) < 0, "/proc visible");
  expect(open("/new", O_CREAT | O_WRONLY, 0600) < 0 && errno == EROFS, "root is writable");
  expect(open("/..", O_PATH | O_DIRECTORY) >= 0, "/.. is not the root");
  expect(getpid() == 1, "not pid 1 of its namespace");
  expect(mount("none", "/", "tmpfs", 0, nullptr) != 0, "mount allowed");
  expect(unshare(CLONE_NEWNET) != 0, "unshare of a network allowed");
  expect(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, "no_new_privs is off");
  expect(prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN, 0, 0, 0) == 0, "bounding set is not empty");
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  expect(
      syscall(SYS_capget, &header, data) == 0 && data[0].permitted == 0 && data[1].permitted == 0,
      "capabilities left");
  expect(if_nametoindex("eth0") == 0, "a network interface is visible");
  expect(dup(100) < 0, "a descriptor leaked");
  struct stat output{};
  expect(fstat(STDOUT_FILENO, &output) == 0 && S_ISCHR(output.st_mode) &&
             output.st_rdev == makedev(1, 3),
         "standard output is not /dev/null");
  expect(getenv("HOME") == nullptr && getenv("CROSVM_TEST_TOKEN") == nullptr,
         "the user's environment is visible");
  const char* const sanitizer = getenv("LSAN_OPTIONS");
  expect(sanitizer != nullptr && std::string_view(sanitizer) == "color=auto",
         "a sanitizer's options are not there");
  return Report(problems.empty() ? "fine" : problems);
}

CROSVM_CHILD_MAIN(InDirectory) {
  const Result<Layers> layers = Confine({.namespaces = Layers::All(),
                                         .root_path = argv[1],
                                         .root = sys::BorrowedFd(4),
                                         .root_writable = false});
  if (!layers.has_value()) return Report(layers.error().ToString());
  if (open("/inside", O_RDONLY) < 0) return Report("the shared file is not there");
  if (open("/inside", O_WRONLY) >= 0) return Report("a read-only share was opened for writing");
  if (open("/../etc/passwd", O_RDONLY) >= 0) return Report("left the share");
  return Report("fine");
}

CROSVM_CHILD_MAIN(ConfinedVmm) {
  // Allows everything: what is left is what holds under any policy.
  const sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const Filter filter{.code = allow};
  if (!ConfineVmm({.filter = filter}).has_value()) return 10;
  if (syscall(SYS_tgkill, getppid(), getppid(), 0) == 0 || errno != EPERM) return 11;
  if (syscall(SYS_tgkill, getpid(), gettid(), 0) != 0) return 12;
  if (mount("none", "/", "tmpfs", 0, nullptr) == 0) return 13;
  _exit(0);  // not by the way of sanitizers, which trace
}

TEST(ConfineVmmTest, SignalsItsOwnThreadsOnly) {
  EXPECT_EQ(testing::WaitChild(testing::SpawnChild("ConfinedVmm", {})), 0);
}

class JailTest : public ::testing::Test {
 protected:
  void SetUp() override { CROSVM_REQUIRE_USER_NAMESPACES(); }
};

TEST_F(JailTest, ConfinedProcessHasNothing) {
  ASSERT_EQ(setenv("CROSVM_TEST_TOKEN", "secret", 1), 0);
  ASSERT_EQ(setenv("LSAN_OPTIONS", "color=auto", 1), 0);
  ASSERT_EQ(setenv("HOME", "/root", 0), 0);
  EXPECT_EQ(RunJailed("Confined"), "fine");
}

TEST_F(JailTest, DirectoryBecomesTheRoot) {
  char path[] = "/tmp/crosvm-jail-XXXXXX";
  ASSERT_NE(mkdtemp(path), nullptr);
  const std::string file = std::string(path) + "/inside";
  ASSERT_TRUE(sys::Open(file, O_CREAT | O_WRONLY, 0644).has_value());
  ASSERT_EQ(chmod(path, 0755), 0);
  const sys::UniqueFd directory = *sys::Open(path, O_PATH | O_DIRECTORY);
  EXPECT_EQ(RunJailed("InDirectory", {directory}, path), "fine");
  unlink(file.c_str());
  rmdir(path);
}

TEST(LayersTest, NamesAreListed) {
  Layers layers;
  EXPECT_EQ(layers.ToString(), "none");
  layers.Add(Layer::kUserNamespace);
  layers.Add(Layer::kSeccomp);
  EXPECT_EQ(layers.ToString(), "user,seccomp");
}

}  // namespace
}  // namespace crosvm::jail

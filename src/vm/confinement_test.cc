// What a VMM that is confined can still do to the host's files, and that its end leaves the
// terminal as it was.
#include "vm/confinement.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <semaphore>
#include <string>
#include <thread>

#include "chardev/terminal.h"
#include "jail/landlock.h"
#include "sys/file.h"
#include "testing/child_main.h"

namespace crosvm::vm {
namespace {

bool RefusesToRemove(const char* path) {
  return unlink(path) == -1 && errno == EACCES;
}

// Arguments: the control socket, if there is one, and a file elsewhere.
CROSVM_CHILD_MAIN(ConfinedVm) {
  std::vector<std::string> sockets;
  if (argc == 3) sockets.emplace_back(argv[1]);
  Result<Confinement> confinement = Confinement::Load({}, sockets);
  if (!confinement.has_value()) return 10;
  const char* const elsewhere = argv[argc - 1];
  // As a vCPU thread, which is there before the process is confined.
  std::binary_semaphore ready(0);
  std::binary_semaphore go(0);
  bool thread_refused = false;
  std::thread thread([&] {
    const bool dropped = confinement->DropThreadRights().has_value();
    ready.release();
    go.acquire();
    thread_refused = dropped && RefusesToRemove(elsewhere);
  });
  ready.acquire();
  if (!confinement->ConfineProcess().has_value()) _exit(11);
  go.release();
  thread.join();
  if (!confinement->layers().Has(jail::Layer::kLandlock)) _exit(12);
  if (!RefusesToRemove(elsewhere)) _exit(13);
  if (!thread_refused) _exit(14);
  const bool removed = unlink(argv[1]) == 0;
  _exit(removed ? 0 : 15);  // not by the way of sanitizers, which read /proc
}

class ConfinementTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (jail::LandlockAbi() == 0) GTEST_SKIP() << "this kernel has no Landlock";
    ASSERT_NE(mkdtemp(folder_), nullptr);
    ASSERT_EQ(mkdir(Path("run").c_str(), 0700), 0);
    for (const char* const name : {"run/vm.sock", "elsewhere"}) {
      ASSERT_TRUE(sys::Open(Path(name), O_CREAT | O_WRONLY, 0600).has_value());
    }
  }
  void TearDown() override {
    unlink(Path("run/vm.sock").c_str());
    unlink(Path("elsewhere").c_str());
    rmdir(Path("run").c_str());
    rmdir(folder_);
  }
  std::string Path(const std::string& name) const { return std::string(folder_) + "/" + name; }

  char folder_[32] = "/tmp/crosvm-vm-XXXXXX";
};

TEST_F(ConfinementTest, Hostile_RemovesNothingButItsSocket) {
  EXPECT_EQ(testing::WaitChild(
                testing::SpawnChild("ConfinedVm", {Path("run/vm.sock"), Path("elsewhere")})),
            0);
  EXPECT_EQ(access(Path("run/vm.sock").c_str(), F_OK), -1);
  EXPECT_EQ(access(Path("elsewhere").c_str(), F_OK), 0);
}

TEST_F(ConfinementTest, Hostile_RemovesNothingWithoutASocket) {
  EXPECT_EQ(testing::WaitChild(testing::SpawnChild("ConfinedVm", {Path("elsewhere")})), 15);
  EXPECT_EQ(access(Path("elsewhere").c_str(), F_OK), 0);
}

void MakeDeniedCall() {
  syscall(SYS_mount, nullptr, nullptr, nullptr, 0, nullptr);
}

// Takes the terminal (descriptor 3), confines itself as a VMM, and ends as told.
CROSVM_CHILD_MAIN(CrashingVm) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setsid();
  ioctl(3, TIOCSCTTY, 0);
  const auto terminal = chardev::RawTerminal::Enter(sys::BorrowedFd(3));
  if (!terminal.has_value() || !terminal->active()) return 10;
  Result<Confinement> confinement = Confinement::Load({}, {});
  if (!confinement.has_value() || !confinement->ConfineProcess().has_value()) _exit(11);
  const std::string how = argv[1];
  if (how == "abort") abort();
  if (how == "denied call") MakeDeniedCall();
  std::thread([&] {
    if (!confinement->ConfineVcpuThread().has_value()) _exit(12);
    if (how == "abort of a vCPU thread") abort();
    MakeDeniedCall();
  }).join();
  _exit(13);
}

TEST(ConfinedCrashTest, PutsTheTerminalBack) {
  for (const char* const how :
       {"abort", "denied call", "abort of a vCPU thread", "denied call of a vCPU thread"}) {
    int master = -1;
    int slave = -1;
    ASSERT_EQ(openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
    const int status = testing::WaitChild(testing::SpawnChild("CrashingVm", {how}, {slave}));
    EXPECT_TRUE(status < 10 || status > 13) << how << ": " << status;
    termios mode{};
    EXPECT_EQ(tcgetattr(slave, &mode), 0);
    EXPECT_NE(mode.c_lflag & (ICANON | ECHO | ISIG), 0U) << how;
    close(master);
    close(slave);
  }
}

}  // namespace
}  // namespace crosvm::vm

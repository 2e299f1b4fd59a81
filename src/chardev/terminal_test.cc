#include "chardev/terminal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <string>

#include "testing/child_main.h"

namespace crosvm::chardev {
namespace {

bool IsRaw(int fd) {
  termios mode{};
  EXPECT_EQ(tcgetattr(fd, &mode), 0);
  return (mode.c_lflag & (ICANON | ECHO | ISIG)) == 0;
}

// Becomes the leader of a session with the pseudo-terminal (descriptor 3) as its terminal, enters
// raw mode, says so on descriptor 4, and ends as told.
CROSVM_CHILD_MAIN(RawTerminalChild) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Who starts the tests may ignore some: nohup, a shell's background jobs.
  for (const int number : {SIGTERM, SIGHUP, SIGINT, SIGTSTP, SIGCONT}) signal(number, SIG_DFL);
  setsid();
  ioctl(3, TIOCSCTTY, 0);
  auto guard = RawTerminal::Enter(sys::BorrowedFd(3));
  if (!guard || !guard->active()) return 99;
  if (write(4, "r", 1) != 1) return 98;
  const std::string how = argv[1];
  if (how == "exit") exit(0);
  if (how == "abort") abort();
  if (how == "return") return 0;
  for (;;) pause();
}

class TerminalTest : public ::testing::Test {
 protected:
  TerminalTest() { EXPECT_EQ(openpty(&master, &slave, nullptr, nullptr, nullptr), 0); }
  ~TerminalTest() override {
    for (const int fd : {master, slave}) close(fd);
  }
  pid_t Start(const std::string& how) {
    int told[2];
    EXPECT_EQ(pipe2(told, O_CLOEXEC), 0);
    const pid_t pid = testing::SpawnChild("RawTerminalChild", {how}, {slave, told[1]});
    close(told[1]);  // a child that dies early says so by its end
    char byte = 0;
    EXPECT_EQ(read(told[0], &byte, 1), 1);
    close(told[0]);
    return pid;
  }

  int master = -1;
  int slave = -1;
};

TEST_F(TerminalTest, NotATerminalIsAnInactiveGuard) {
  const sys::UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const auto guard = RawTerminal::Enter(null);
  ASSERT_TRUE(guard.has_value());
  EXPECT_FALSE(guard->active());
}

TEST_F(TerminalTest, RestoredOnEveryWayOut) {
  for (const char* how : {"exit", "return", "abort"}) {
    const pid_t pid = Start(how);
    testing::WaitChild(pid);
    EXPECT_FALSE(IsRaw(slave)) << how;
  }
}

TEST_F(TerminalTest, RestoredByDeadlySignalsWhichStillKill) {
  for (const int signal : {SIGTERM, SIGHUP, SIGINT, SIGSEGV, SIGABRT}) {
    const pid_t pid = Start("pause");
    EXPECT_TRUE(IsRaw(slave));
    kill(pid, signal);
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_FALSE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << signal;
    EXPECT_FALSE(IsRaw(slave)) << signal;
  }
}

TEST_F(TerminalTest, RestoredWhileStoppedAndRawAgainAfterwards) {
  const pid_t pid = Start("pause");
  kill(pid, SIGTSTP);
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
  ASSERT_TRUE(WIFSTOPPED(status));
  EXPECT_FALSE(IsRaw(slave));
  kill(pid, SIGCONT);
  ASSERT_EQ(waitpid(pid, &status, WCONTINUED), pid);
  // The handler runs before anything else of the process; wait for its effect, not for a time.
  while (!IsRaw(slave)) sched_yield();
  kill(pid, SIGTERM);
  testing::WaitChild(pid);
  EXPECT_FALSE(IsRaw(slave));
}

}  // namespace
}  // namespace crosvm::chardev

#include "sys/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>

#include "testing/child_main.h"

namespace crosvm::sys {
namespace {

// Exits with the status it is told, or ends by the signal it is told, after its input was closed.
CROSVM_CHILD_MAIN(EndAs) {
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  char byte = 0;
  while (read(3, &byte, 1) > 0) {
  }
  const int code = atoi(argv[2]);
  if (std::string(argv[1]) == "signal") {
    signal(code, SIG_DFL);
    raise(code);
  }
  _exit(code);
}

struct Child {
  PidFd process;
  UniqueFd hold;
};

Child Start(const char* how, int code) {
  int ends[2];
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  Child child;
  child.hold = UniqueFd(ends[1]);
  const pid_t pid =
      ::crosvm::testing::SpawnChild("EndAs", {how, std::to_string(code)}, {reader.get()});
  child.process = PidFd::Open(pid).value();
  EXPECT_EQ(child.process.pid(), pid);
  return child;
}

bool HasEnded(const PidFd& process, int timeout_ms) {
  pollfd item{process.fd().get(), POLLIN, 0};
  return poll(&item, 1, timeout_ms) == 1;
}

TEST(PidFdTest, ExitStatusArrives) {
  Child child = Start("exit", 42);
  EXPECT_FALSE(HasEnded(child.process, 0));
  EXPECT_FALSE(child.process.TryWait().value().has_value());
  child.hold.Reset();
  ASSERT_TRUE(HasEnded(child.process, 30'000));
  const auto status = child.process.TryWait().value();
  ASSERT_TRUE(status.has_value());
  EXPECT_FALSE(status->ok());
  EXPECT_EQ(status->code, 42);
  EXPECT_EQ(status->ToString(), "exit status 42");
  // Reaped: there is nothing left to wait for.
  EXPECT_FALSE(child.process.TryWait().has_value());
  EXPECT_FALSE(child.process.Signal(SIGTERM).has_value());
}

TEST(PidFdTest, SuccessIsOk) {
  Child child = Start("exit", 0);
  child.hold.Reset();
  EXPECT_TRUE(child.process.Wait().value().ok());
}

TEST(PidFdTest, DeathBySignalIsNamed) {
  Child child = Start("signal", SIGABRT);
  child.hold.Reset();
  const ExitStatus status = child.process.Wait().value();
  EXPECT_TRUE(status.signaled);
  EXPECT_EQ(status.code, SIGABRT);
  EXPECT_EQ(status.ToString(), "killed by SIGABRT");
}

TEST(PidFdTest, SignalReachesTheChild) {
  Child child = Start("exit", 0);
  ASSERT_TRUE(child.process.Signal(SIGKILL).has_value());
  EXPECT_EQ(child.process.Wait().value().ToString(), "killed by SIGKILL");
}

TEST(PidFdTest, NoSuchProcess) {
  EXPECT_FALSE(PidFd::Open(-1).has_value());
  EXPECT_FALSE(PidFd().valid());
}

TEST(SignalFdTest, ReadsPendingSignals) {
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  {
    constexpr int kSignals[] = {SIGUSR1, SIGUSR2};
    const SignalFd signals = SignalFd::Create(kSignals).value();
    EXPECT_FALSE(signals.Read().has_value());
    raise(SIGUSR2);
    raise(SIGUSR1);
    EXPECT_EQ(signals.Read(), SIGUSR1);  // lower numbers come first
    EXPECT_EQ(signals.Read(), SIGUSR2);
    EXPECT_FALSE(signals.Read().has_value());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST(SignalNameTest, KnownAndUnknown) {
  EXPECT_EQ(SignalName(SIGSEGV), "SIGSEGV");
  EXPECT_EQ(SignalName(SIGSYS), "SIGSYS");
  EXPECT_EQ(SignalName(64), "signal 64");
  EXPECT_EQ(SignalName(-1), "signal -1");
}

TEST(ExitStatusTest, CoreIsMentioned) {
  const ExitStatus status{.signaled = true, .code = SIGSEGV, .core_dumped = true};
  EXPECT_EQ(status.ToString(), "killed by SIGSEGV (core dumped)");
}

}  // namespace
}  // namespace crosvm::sys

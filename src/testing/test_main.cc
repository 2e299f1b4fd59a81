#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <map>

#include "base/log.h"
#include "testing/child_main.h"

namespace crosvm::testing {
namespace {

std::map<std::string, ChildMain>& Children() {
  static std::map<std::string, ChildMain> children;
  return children;
}

bool errors_expected = false;

// A test during which an error was logged fails, unless it announced that.
class ErrorListener : public ::testing::EmptyTestEventListener {
  void OnTestStart(const ::testing::TestInfo&) override {
    before_ = LoggedErrors();
    errors_expected = false;
  }
  void OnTestEnd(const ::testing::TestInfo&) override {
    if (!errors_expected && LoggedErrors() != before_) {
      ADD_FAILURE() << "an error was logged; call ExpectLoggedErrors() if the test provokes it";
    }
  }
  uint64_t before_ = 0;
};

}  // namespace

bool RegisterChildMain(const char* name, ChildMain child_main) {
  return Children().emplace(name, child_main).second;
}

void ExpectLoggedErrors() {
  errors_expected = true;
}

pid_t SpawnChild(const std::string& name, const std::vector<std::string>& arguments,
                 const std::vector<int>& inherit) {
  std::vector<std::string> all = {"/proc/self/exe", "--child-main=" + name};
  all.insert(all.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& argument : all) argv.push_back(argument.data());
  argv.push_back(nullptr);
  fflush(nullptr);
  const pid_t pid = fork();
  if (pid != 0) return pid;
  // Move the descriptors out of the way first: a target number may be the source of another.
  std::vector<int> high;
  for (const int fd : inherit) high.push_back(fcntl(fd, F_DUPFD_CLOEXEC, 100));
  int target = 3;
  for (const int fd : high) dup2(fd, target++);
  execv("/proc/self/exe", argv.data());
  _exit(127);
}

bool UserNamespacesWork() {
  const pid_t child = fork();
  if (child == 0) _exit(unshare(CLONE_NEWUSER) == 0 ? 0 : 1);
  return child > 0 && WaitChild(child) == 0;
}

int WaitChild(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) == -1 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace crosvm::testing

int main(int argc, char** argv) {
  using namespace crosvm::testing;
  constexpr const char kChild[] = "--child-main=";
  if (argc > 1 && strncmp(argv[1], kChild, sizeof(kChild) - 1) == 0) {
    const auto child = Children().find(argv[1] + sizeof(kChild) - 1);
    if (child == Children().end()) return 126;
    return child->second(argc - 1, argv + 1);
  }
  ::testing::InitGoogleTest(&argc, argv);
  ::testing::UnitTest::GetInstance()->listeners().Append(new ErrorListener);
  const int status = RUN_ALL_TESTS();
  // A filter that matches nothing must not pass for success. The counts are known only after the
  // run.
  if (::testing::UnitTest::GetInstance()->test_to_run_count() == 0) {
    fprintf(stderr, "no test selected\n");
    return 1;
  }
  return status;
}

// Tests that need a second process register a main for it and run it by executing the test binary
// again: fresh address space, nothing inherited but what is passed on purpose (Crashpad's way).
//
//   CROSVM_CHILD_MAIN(EchoPeer) { …; return 0; }      // int (int argc, char** argv)
//   pid_t pid = SpawnChild("EchoPeer", {"--fd", "3"}, /*inherit=*/{fd});
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace crosvm::testing {

using ChildMain = int (*)(int argc, char** argv);
bool RegisterChildMain(const char* name, ChildMain child_main);

// Forks and executes /proc/self/exe. `inherit` lists descriptors that lose close-on-exec and arrive
// as 3, 4, ….
pid_t SpawnChild(const std::string& name, const std::vector<std::string>& arguments,
                 const std::vector<int>& inherit = {});
// Waits; the exit status, or 128 + signal.
int WaitChild(pid_t pid);

// Lines of LogLevel::kError fail a test unless it says how many it expects (it provokes them).
void ExpectLoggedErrors();

// Whether this host lets us make user namespaces, without which nothing is jailed.
bool UserNamespacesWork();

}  // namespace crosvm::testing

// First in a test (or SetUp()) that jails something.
#define CROSVM_REQUIRE_USER_NAMESPACES()        \
  if (!::crosvm::testing::UserNamespacesWork()) \
  GTEST_SKIP() << "this host forbids user "     \
                  "namespaces"

#define CROSVM_CHILD_MAIN(name)                                       \
  static int ChildMain_##name(int argc, char** argv);                 \
  [[maybe_unused]] static const bool child_main_registered_##name =   \
      ::crosvm::testing::RegisterChildMain(#name, &ChildMain_##name); \
  static int ChildMain_##name([[maybe_unused]] int argc, [[maybe_unused]] char** argv)

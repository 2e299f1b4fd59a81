// What Landlock denies, where the kernel running the test has it.
#include "jail/landlock.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "testing/child_main.h"

namespace crosvm::jail {
namespace {

CROSVM_CHILD_MAIN(Landlocked) {
  const int open_before = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return 10;
  if (!RestrictByLandlock({}).has_value()) return 11;
  char byte = 0;
  if (read(open_before, &byte, 1) != 1) return 12;
  if (open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES) return 13;
  if (open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC) >= 0) return 14;
  // What devices do to memory of their own.
  const int memory = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (memory < 0 || ftruncate(memory, 4096) != 0) return 15;
  _exit(0);  // not by the way of sanitizers, which read /proc
}

TEST(LandlockTest, PathsAreDeniedAndOpenFilesAreNot) {
  if (LandlockAbi() == 0) {
    EXPECT_EQ(RestrictByLandlock({}).error().kind(), ErrorKind::kUnsupported);
    return;
  }
  EXPECT_EQ(testing::WaitChild(testing::SpawnChild("Landlocked", {})), 0);
}

}  // namespace
}  // namespace crosvm::jail

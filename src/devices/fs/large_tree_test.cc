// Trees of more files than a process may have open.
#include <fcntl.h>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "devices/fs/fuse_driver.h"

namespace crosvm::devices::fs {
namespace {

constexpr uint64_t kRoot = FUSE_ROOT_ID;

// As `find DIR -type f -exec sha256sum` sees a tree: every file is known, opened and read, and none
// is forgotten. Gives how many were right.
int ReadTree(int directories, int files, rlim_t descriptors) {
  const TestDirectory dir;
  FuseDriver fuse(dir.path(), {.share = {.max_nodes = 1U << 21, .max_descriptors = 64}});
  for (int i = 0; i < directories; ++i) {
    const std::string sub = fmt::format("d{}", i);
    EXPECT_EQ(mkdir((dir / sub).c_str(), 0755), 0);
    for (int k = 0; k < files; ++k) dir.Write(fmt::format("{}/f{}", sub, k), sub);
  }
  rlimit before{};
  EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{.rlim_cur = descriptors, .rlim_max = before.rlim_max};
  EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  int right = 0;
  for (int i = 0; i < directories; ++i) {
    const std::string sub = fmt::format("d{}", i);
    const uint64_t directory = fuse.Lookup(kRoot, sub);
    for (int k = 0; k < files; ++k) {
      const auto file = fuse.Open(fuse.Lookup(directory, fmt::format("f{}", k)));
      right += fuse.Read(file.node, file.handle, 0, 100).text() == sub;
      fuse.Release(file.node, file.handle);
    }
  }
  EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  return right;
}

TEST(LargeTreeTest, ALargeTreeIsReadWithFewDescriptors) {
  EXPECT_EQ(ReadTree(80, 50, 200), 80 * 50);
}

// Minutes: --gtest_also_run_disabled_tests --gtest_filter=*AMillion*
TEST(LargeTreeTest, DISABLED_AMillionFilesAreReadWithTheUsualLimit) {
  EXPECT_EQ(ReadTree(1000, 1000, 1024), 1000 * 1000);
}

}  // namespace
}  // namespace crosvm::devices::fs

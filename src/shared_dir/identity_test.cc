// Id maps, and creating as somebody else.
#include "shared_dir/identity.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "jail/self_fds.h"
#include "shared_dir/prepare.h"

namespace crosvm::shared_dir {
namespace {

std::string ErrorOf(const std::string& map) {
  const auto parsed = ParseIdMap(map);
  return parsed.has_value() ? "" : parsed.error().ToString();
}

TEST(IdMapTest, Lines) {
  const auto map = ParseIdMap("0 1000 1,1 100000 65536");
  ASSERT_TRUE(map.has_value());
  ASSERT_EQ(map->size(), 2u);
  EXPECT_EQ((*map)[1].inside, 1u);
  EXPECT_EQ((*map)[1].outside, 100000u);
  EXPECT_EQ((*map)[1].count, 65536u);
  EXPECT_EQ(ErrorOf("  0   1000  1 "), "");
}

TEST(IdMapTest, Hostile_Maps) {
  for (const char* bad : {"", "0", "0 1", "0 1 0", "0 1 2 3", "a b c", "0 1 1,", ",0 1 1", "-1 0 1",
                          "0 4294967295 2", "4294967295 0 2", "0 99999999999 1", "0x0 0 1"}) {
    EXPECT_NE(ErrorOf(bad), "") << bad;
  }
  EXPECT_NE(ErrorOf("1 1000 1").find("id 0"), std::string::npos);
  EXPECT_NE(ErrorOf("0 0 10,9 100 1").find("overlap"), std::string::npos);
  EXPECT_NE(ErrorOf("0 0 10,20 5 1").find("overlap"), std::string::npos);
  std::string many = "0 0 1";
  for (int i = 1; i < 400; ++i) many += fmt::format(",{} {} 1", i, i);
  EXPECT_NE(ErrorOf(many).find("340"), std::string::npos);
}

TEST(IdMapTest, Defaults) {
  const auto users = DefaultUserMap();
  ASSERT_TRUE(users.has_value());
  ASSERT_FALSE(users->empty());
  EXPECT_EQ((*users)[0].inside, 0u);
  if (geteuid() == 0) {
    EXPECT_EQ((*users)[0].outside, 0u);
  }
  if (geteuid() != 0) {
    EXPECT_EQ((*users)[0].outside, geteuid());
  }
}

TEST(ScopedCallerTest, IsOneThreadsMatterAndEnds) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const sys::UniqueFd self = *jail::OpenSelfFds();
  std::thread worker([&] {
    ASSERT_TRUE(EnterWorkerThread(self).has_value());
    char path[] = "/tmp/crosvm-identity-XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    ASSERT_EQ(chmod(path, 0777), 0);
    const sys::UniqueFd directory(open(path, O_PATH | O_DIRECTORY | O_CLOEXEC));
    {
      const ScopedCaller as({.user = 1234, .group = 4321, .umask = 027});
      ASSERT_EQ(mkdirat(directory.get(), "sub", 0777), 0);
    }
    struct stat status{};
    ASSERT_EQ(fstatat(directory.get(), "sub", &status, 0), 0);
    EXPECT_EQ(status.st_uid, 1234u);
    EXPECT_EQ(status.st_gid, 4321u);
    EXPECT_EQ(status.st_mode & 0777, 0750u);
    EXPECT_EQ(geteuid(), 0u);
    EXPECT_EQ(getegid(), 0u);
    EXPECT_EQ(unlinkat(directory.get(), "sub", AT_REMOVEDIR), 0);
    EXPECT_EQ(rmdir(path), 0);
  });
  const mode_t before = umask(022);
  worker.join();
  EXPECT_EQ(umask(before), 022u);
  EXPECT_EQ(geteuid(), 0u);
}

TEST(PrepareTest, WhatIsNoDirectory) {
  EXPECT_FALSE(PrepareShare({.path = "/nonexistent"}).has_value());
  EXPECT_FALSE(PrepareShare({.path = "/proc/self/exe"}).has_value());
  const auto share = PrepareShare({.path = "/tmp/../tmp/."});
  ASSERT_TRUE(share.has_value());
  EXPECT_EQ(share->root_path, "/tmp");
  EXPECT_EQ(share->max_open % 16, 0u);
  EXPECT_LT(share->max_open + 2 * share->max_descriptors, share->max_open_files);
}

}  // namespace
}  // namespace crosvm::shared_dir

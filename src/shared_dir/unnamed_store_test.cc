// Files without a name over deaths at any moment.
#include "shared_dir/unnamed_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <set>

#include "base/check.h"
#include "sys/file.h"

namespace crosvm::shared_dir {
namespace {

class UnnamedStoreTest : public ::testing::Test {
 protected:
  UnnamedStoreTest() {
    auto [in, out] = *UnnamedStore::MakeSockets();
    in_ = std::move(in);
    out_ = std::move(out);
    for (size_t i = 0; i < files_.size(); ++i) {
      files_[i] = sys::UniqueFd(memfd_create(fmt::format("{}", i).c_str(), MFD_CLOEXEC));
      CHECK(ftruncate(files_[i].get(), static_cast<off_t>(i)) == 0);
    }
  }

  // As a process has it, which may die: what it held is in the sockets alone.
  std::unique_ptr<UnnamedStore> Make() {
    return std::make_unique<UnnamedStore>(sys::UnixSocket(*in_.fd().Dup()),
                                          sys::UnixSocket(*out_.fd().Dup()));
  }
  // What a successor finds, each being the file that was put there.
  std::set<uint64_t> Found() {
    std::set<uint64_t> handles;
    for (const auto& [handle, file] : Make()->Recover()) {
      EXPECT_EQ(sys::Stat(file)->st_size, static_cast<off_t>(handle)) << handle;
      handles.insert(handle);
    }
    return handles;
  }
  void Put(UnnamedStore& store, std::initializer_list<uint64_t> handles) {
    for (const uint64_t handle : handles) EXPECT_TRUE(store.Put(handle, files_[handle]));
  }

  sys::UnixSocket in_;
  sys::UnixSocket out_;
  std::array<sys::UniqueFd, 200> files_;
};

TEST_F(UnnamedStoreTest, KeepsWhatIsNotRemoved) {
  const auto store = Make();
  EXPECT_TRUE(store->Recover().empty());
  Put(*store, {1, 2, 3, 4});
  store->Remove(3);
  store->Remove(77);
  EXPECT_EQ(Found(), (std::set<uint64_t>{1, 2, 4}));
  for (const uint64_t handle : {1, 2, 4}) store->Remove(handle);
  EXPECT_TRUE(Found().empty());
}

TEST_F(UnnamedStoreTest, ASuccessorThatDiesLeavesThemToTheNext) {
  Put(*Make(), {1, 2, 3});
  for (int death = 0; death < 3; ++death) EXPECT_EQ(Found(), (std::set<uint64_t>{1, 2, 3}));
  const auto store = Make();
  store->Recover();
  store->Remove(2);
  EXPECT_EQ(Found(), (std::set<uint64_t>{1, 3}));
  store->Clear();
  EXPECT_TRUE(Found().empty());
}

TEST_F(UnnamedStoreTest, ACopyOfADeadProcessIsDropped) {
  Put(*Make(), {1, 2, 1, 3, 2});
  EXPECT_EQ(Found(), (std::set<uint64_t>{1, 2, 3}));
  const auto store = Make();
  store->Recover();
  store->Remove(1);
  store->Remove(2);
  EXPECT_EQ(Found(), std::set<uint64_t>{3});
}

TEST_F(UnnamedStoreTest, WithoutADescriptorLeftNothingIsLost) {
  const auto store = Make();
  Put(*store, {1, 2, 3});
  const sys::UniqueFd lowest = *sys::Open("/dev/null", O_RDONLY);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{.rlim_cur = static_cast<rlim_t>(lowest.get()), .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  store->Remove(3);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(Found(), (std::set<uint64_t>{1, 2, 3}));
  store->Remove(3);
  EXPECT_EQ(Found(), (std::set<uint64_t>{1, 2}));
}

TEST_F(UnnamedStoreTest, IsBounded) {
  const auto store = Make();
  size_t kept = 0;
  while (kept < files_.size() && store->Put(kept, files_[kept])) ++kept;
  EXPECT_EQ(kept, 128u);
  // A full one still has room to turn around.
  store->Remove(kept - 1);
  EXPECT_EQ(Found().size(), kept - 1);
  EXPECT_TRUE(store->Put(kept, files_[kept]));
}

TEST_F(UnnamedStoreTest, Hostile_MessagesThatNoStoreSends) {
  const uint8_t bytes[8] = {1};
  ASSERT_TRUE(in_.Send(bytes).has_value());
  ASSERT_TRUE(in_.Send(std::span(bytes).first(3), {{files_[1]}}).has_value());
  ASSERT_TRUE(in_.Send(bytes, {{files_[1], files_[2]}}).has_value());
  Put(*Make(), {5});
  EXPECT_EQ(Found(), std::set<uint64_t>{5});
  const auto store = Make();
  store->Recover();
  store->Remove(5);
  EXPECT_TRUE(Found().empty());
}

// What nobody removes is there whenever the process dies.
TEST_F(UnnamedStoreTest, DeathsAtAnyMoment) {
  Put(*Make(), {1, 2, 3, 4, 5, 6, 7, 8});
  void* const shared = mmap(nullptr, sizeof(std::atomic<uint32_t>), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  auto& steps = *new (shared) std::atomic<uint32_t>(0);
  for (uint32_t round = 0; round < 40; ++round) {
    steps = 0;
    const pid_t child = fork();
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const auto store = Make();
      store->Recover();
      while (true) {
        for (const uint64_t handle : {20, 21}) {
          store->Put(handle, files_[handle]);
          ++steps;
        }
        for (const uint64_t handle : {20, 21}) {
          store->Remove(handle);
          ++steps;
        }
      }
    }
    while (steps < round) sched_yield();
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    std::set<uint64_t> found = Found();
    found.erase(20);
    found.erase(21);
    ASSERT_EQ(found, (std::set<uint64_t>{1, 2, 3, 4, 5, 6, 7, 8})) << round;
  }
  munmap(shared, sizeof(steps));
}

}  // namespace
}  // namespace crosvm::shared_dir

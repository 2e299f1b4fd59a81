// The process that starts processes: its children are ours, and once sealed it only repeats itself.
#include "jail/spawner.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "testing/child_main.h"

namespace crosvm::jail {
namespace {

using ::testing::HasSubstr;

CROSVM_CHILD_MAIN(TestSpawner) {
  return SpawnerMain(argc, argv);
}
CROSVM_CHILD_MAIN(ExitsWithSeven) {
  return 7;
}
CROSVM_CHILD_MAIN(Writes) {
  return write(3, argv[1], 2) == 2 ? 0 : 1;
}

class SpawnerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<Spawner> started =
        Spawner::Start({.best_effort = true, .entry = "--child-main=TestSpawner"});
    ASSERT_TRUE(started.has_value()) << started.error().ToString();
    spawner_ = std::move(*started);
  }
  static SpawnOptions Options(const std::string& child) {
    return {.argv = {"crosvm", "--child-main=" + child}, .best_effort = true};
  }

  Spawner spawner_;
};

TEST_F(SpawnerTest, ItsProcessesAreOurChildren) {
  Result<Spawned> spawned = spawner_.Spawn(Options("ExitsWithSeven"));
  ASSERT_TRUE(spawned.has_value()) << spawned.error().ToString();
  const Result<sys::ExitStatus> status = spawned->process.Wait();
  ASSERT_TRUE(status.has_value()) << status.error().ToString();
  EXPECT_EQ(status->ToString(), "exit status 7");
}

TEST_F(SpawnerTest, PassesDescriptorsAndPrograms) {
  auto [ours, theirs] = *sys::UnixSocket::Pair(sys::SocketType::kSeqPacket);
  const sys::UniqueFd program(open("/proc/self/exe", O_PATH | O_CLOEXEC));
  SpawnOptions options = Options("Writes");
  options.argv.emplace_back("hi");
  options.inherit = {theirs.fd()};
  options.executable = program;
  Result<Spawned> spawned = spawner_.Spawn(options);
  ASSERT_TRUE(spawned.has_value()) << spawned.error().ToString();
  theirs = sys::UnixSocket();
  uint8_t text[8] = {};
  EXPECT_EQ(ours.Receive(text)->bytes, 2u);
  EXPECT_EQ(text[0], 'h');
  EXPECT_TRUE(spawned->process.Wait()->ok());
}

TEST_F(SpawnerTest, OnceSealedStartsWhatItHasStartedOnly) {
  ASSERT_TRUE(spawner_.Spawn(Options("ExitsWithSeven"))->process.Wait().has_value());
  ASSERT_TRUE(spawner_.Seal().has_value());
  SpawnOptions again = Options("ExitsWithSeven");
  again.argv.emplace_back("another[1]");
  EXPECT_TRUE(spawner_.Spawn(again)->process.Wait().has_value());

  const auto refused = [&](const SpawnOptions& options) {
    const Result<Spawned> spawned = spawner_.Spawn(options);
    return spawned.has_value() ? "started" : spawned.error().ToString();
  };
  EXPECT_THAT(refused(Options("Writes")), HasSubstr("sealed"));
  SpawnOptions root = Options("ExitsWithSeven");
  root.uid_map = {{0, 0, 1}};
  EXPECT_THAT(refused(root), HasSubstr("sealed"));
  SpawnOptions open = Options("ExitsWithSeven");
  open.namespaces.Remove(Layer::kNetNamespace);
  EXPECT_THAT(refused(open), HasSubstr("sealed"));
  const sys::UniqueFd shell(::open("/bin/sh", O_PATH | O_CLOEXEC));
  SpawnOptions other = Options("ExitsWithSeven");
  other.executable = shell;
  EXPECT_THAT(refused(other), HasSubstr("sealed"));
}

TEST_F(SpawnerTest, SaysThatItIsGone) {
  ASSERT_EQ(kill(spawner_.pid(), SIGKILL), 0);
  const Result<Spawned> spawned = spawner_.Spawn(Options("ExitsWithSeven"));
  ASSERT_FALSE(spawned.has_value());
}

TEST_F(SpawnerTest, KnowsOfNoLackOfMemory) {
  EXPECT_EQ(*spawner_.OutOfMemory(getpid()), "");
}

TEST(SpawnRequestTest, TravelsWhole) {
  SpawnRequest request;
  request.spawn.argv = {"crosvm", "--device-process", "block[0]"};
  request.spawn.uid_map = {{0, 100000, 65536}};
  request.spawn.gid_map = {{0, 1, 2}, {3, 4, 5}};
  request.spawn.host_root = true;
  request.inherited = 1;
  const Result<SpawnRequest> back = DecodeSpawnRequest(EncodeSpawnRequest(request));
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->spawn.argv, request.spawn.argv);
  EXPECT_EQ(back->spawn.uid_map, request.spawn.uid_map);
  EXPECT_EQ(back->spawn.gid_map, request.spawn.gid_map);
  EXPECT_TRUE(back->spawn.host_root);
  EXPECT_FALSE(back->spawn.best_effort);
}

TEST(SpawnRequestTest, Hostile_CutAndChangedRequestsAreRefusedOrHarmless) {
  SpawnRequest request;
  request.spawn.argv = {"crosvm", "--device-process", "block[0]"};
  request.spawn.uid_map = {{0, 100000, 65536}};
  const std::vector<uint8_t> whole = EncodeSpawnRequest(request);
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(DecodeSpawnRequest({whole.data(), size}).has_value()) << size;
  }
  for (size_t i = 0; i < whole.size(); ++i) {
    std::vector<uint8_t> changed = whole;
    changed[i] = 0xff;
    (void)DecodeSpawnRequest(changed);
  }
  std::vector<uint8_t> longer = whole;
  longer.push_back(0);
  EXPECT_FALSE(DecodeSpawnRequest(longer).has_value());
}

}  // namespace
}  // namespace crosvm::jail

// The process that starts processes: its children are ours, and once sealed it only repeats itself.
#include "jail/spawner.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/file.h"
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

// Until it is killed, or the other end of its socket closes.
CROSVM_CHILD_MAIN(Stays) {
  char byte = 0;
  return static_cast<int>(read(3, &byte, 1));
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

TEST_F(SpawnerTest, Hostile_OnceSealedExecutesNoOtherProgram) {
  const sys::UniqueFd program(open("/proc/self/exe", O_PATH | O_CLOEXEC));
  SpawnOptions options = Options("ExitsWithSeven");
  options.executable = program;
  ASSERT_TRUE(spawner_.Spawn(options)->process.Wait().has_value());
  ASSERT_TRUE(spawner_.Seal().has_value());

  // Opened anew it is the same program still.
  const sys::UniqueFd again(open("/proc/self/exe", O_PATH | O_CLOEXEC));
  options.executable = again;
  const Result<Spawned> spawned = spawner_.Spawn(options);
  ASSERT_TRUE(spawned.has_value()) << spawned.error().ToString();
  EXPECT_EQ(spawned->process.Wait()->ToString(), "exit status 7");

  // What a VMM that was broken into has to offer: the guest's memory.
  const sys::UniqueFd memory(memfd_create("guest", MFD_CLOEXEC));
  ASSERT_TRUE(sys::WriteAll(memory, *sys::ReadFileToString("/bin/true", 1 << 24)).has_value());
  const sys::UniqueFd shell(open("/bin/sh", O_PATH | O_CLOEXEC));
  for (const sys::UniqueFd* const other : {&memory, &shell}) {
    options.executable = *other;
    const Result<Spawned> refused = spawner_.Spawn(options);
    ASSERT_FALSE(refused.has_value());
    EXPECT_THAT(refused.error().ToString(), HasSubstr("sealed"));
  }
  // Nor is its own program in place of another the same request.
  options.executable = sys::BorrowedFd();
  EXPECT_FALSE(spawner_.Spawn(options).has_value());
}

TEST_F(SpawnerTest, SaysThatItIsGone) {
  ASSERT_EQ(kill(spawner_.pid(), SIGKILL), 0);
  const Result<Spawned> spawned = spawner_.Spawn(Options("ExitsWithSeven"));
  ASSERT_FALSE(spawned.has_value());
}

TEST_F(SpawnerTest, SkipsLateAnswersAndEndsWhatTheyStarted) {
  Result<Spawner> started = Spawner::Start({.best_effort = true,
                                            .answer_timeout = std::chrono::milliseconds(200),
                                            .entry = "--child-main=TestSpawner"});
  ASSERT_TRUE(started.has_value()) << started.error().ToString();
  // It hangs, until after its time.
  ASSERT_EQ(kill(started->pid(), SIGSTOP), 0);
  int status = 0;
  ASSERT_EQ(waitpid(started->pid(), &status, WUNTRACED), started->pid());
  auto [ours, theirs] = *sys::UnixSocket::Pair(sys::SocketType::kSeqPacket);
  SpawnOptions late = Options("Stays");
  late.inherit = {theirs.fd()};
  ASSERT_FALSE(started->Spawn(late).has_value());
  theirs = sys::UnixSocket();
  ASSERT_EQ(kill(started->pid(), SIGCONT), 0);

  // From now on as if nothing had been; a slow machine may take more than one time for it.
  Result<Spawned> spawned = started->Spawn(Options("ExitsWithSeven"));
  while (!spawned.has_value()) spawned = started->Spawn(Options("ExitsWithSeven"));
  EXPECT_EQ(spawned->process.Wait()->ToString(), "exit status 7");
  uint8_t byte = 0;
  ASSERT_TRUE(ours.SetTimeouts(std::chrono::seconds(20)).has_value());
  const Result<sys::Received> end = ours.Receive({&byte, 1});
  ASSERT_TRUE(end.has_value()) << "what was started late goes on";
  EXPECT_EQ(end->bytes, 0u);
  while (!started->Seal().has_value()) continue;
  siginfo_t zombie{};
  EXPECT_EQ(waitid(P_ALL, 0, &zombie, WEXITED | WNOHANG | WNOWAIT | __WALL), 0);
  EXPECT_EQ(zombie.si_pid, 0);
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
  request.number = 99;
  const Result<SpawnRequest> back = DecodeSpawnRequest(EncodeSpawnRequest(request));
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->spawn.argv, request.spawn.argv);
  EXPECT_EQ(back->spawn.uid_map, request.spawn.uid_map);
  EXPECT_EQ(back->spawn.gid_map, request.spawn.gid_map);
  EXPECT_TRUE(back->spawn.host_root);
  EXPECT_EQ(back->number, 99u);
  EXPECT_FALSE(back->spawn.best_effort);
}

TEST(SpawnRequestTest, AnswersTravelWhole) {
  const std::vector<uint8_t> bytes = EncodeSpawnAnswer(
      {.number = 7, .pid = 12, .namespaces = Layers(3), .text = "for want of memory"});
  const Result<SpawnAnswer> back = DecodeSpawnAnswer(bytes);
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->number, 7u);
  EXPECT_EQ(back->pid, 12);
  EXPECT_EQ(back->namespaces, Layers(3));
  EXPECT_EQ(back->text, "for want of memory");
  EXPECT_FALSE(DecodeSpawnAnswer({bytes.data(), 11}).has_value());
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

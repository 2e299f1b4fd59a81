// The order in which the kernel's vhost devices are driven, against a kernel of ours.
#include "vhost/kernel_backend.h"

#include <gtest/gtest.h>
#include <linux/virtio_vsock.h>

#include <map>

#include "vhost/net_backend.h"
#include "vhost/vsock_backend.h"
#include "virtio/testing/driver.h"
#include "virtio/types.h"

namespace crosvm::vhost {
namespace {

constexpr uint64_t kVersion1 = virtio::FeatureBit(VIRTIO_F_VERSION_1);
constexpr uint64_t kMergeable = uint64_t{1} << 15;
constexpr uint64_t kChecksum = 1;

using Calls = std::vector<std::string>;

// What was asked of the kernel, in words.
struct Kernel {
  Calls calls;
  uint64_t features = ~uint64_t{0};
  int fail_cid = 0;  // errno
  std::map<uint16_t, uint16_t> positions;
  std::string failing;  // the call that fails

  Status Do(std::string call) {
    calls.push_back(call);
    if (!failing.empty() && call.starts_with(failing)) {
      return std::unexpected(Error::FromErrno(EFAULT, call));
    }
    return {};
  }
  Calls Take() { return std::exchange(calls, {}); }
};

class FakeFile final : public VhostFile {
 public:
  explicit FakeFile(Kernel& kernel) : kernel_(kernel) {}
  Result<uint64_t> GetFeatures() override { return kernel_.features; }
  Status SetFeatures(uint64_t features) override {
    return kernel_.Do(fmt::format("features {:#x}", features));
  }
  Status SetMemory(const memory::GuestMemory& memory) override {
    return kernel_.Do(fmt::format("memory {}", memory.regions().size()));
  }
  Status SetRing(const memory::GuestMemory&, const virtio::QueueActivation& queue) override {
    return kernel_.Do(fmt::format("ring {} at {}", queue.index, queue.position.next_avail));
  }
  Result<uint16_t> TakeRing(uint16_t index) override {
    TRY(kernel_.Do(fmt::format("take {}", index)));
    return kernel_.positions[index];
  }
  Status SetNetBackend(uint16_t index, sys::BorrowedFd tap) override {
    return kernel_.Do(fmt::format("tap {} {}", index, tap.valid() ? "on" : "off"));
  }
  Status SetGuestCid(uint64_t cid) override {
    if (kernel_.fail_cid != 0) {
      return std::unexpected(Error::FromErrno(kernel_.fail_cid, "setting the context id"));
    }
    return kernel_.Do(fmt::format("cid {}", cid));
  }
  Status SetRunning(bool running) override { return kernel_.Do(running ? "run" : "halt"); }

 private:
  Kernel& kernel_;
};

class KernelBackendTest : public ::testing::Test {
 protected:
  std::unique_ptr<VsockBackend> Vsock() {
    auto made = VsockBackend::Create("vhost-vsock[0]", std::make_unique<FakeFile>(kernel_), 9);
    EXPECT_TRUE(made.has_value());
    kernel_.Take();
    return std::move(*made);
  }
  std::unique_ptr<NetBackend> Net() {
    auto made = NetBackend::Create(std::make_unique<FakeFile>(kernel_),
                                   {.name = "vhost-net[0]",
                                    .tap = sys::EventFd::Create()->fd().Dup().value(),
                                    .mac = {2, 0, 0, 0, 0, 9},
                                    .mtu = 1400,
                                    .tap_features = kChecksum,
                                    .set_offloads = [this](uint64_t features) {
                                      (void)kernel_.Do(fmt::format("offloads {:#x}", features));
                                    }});
    EXPECT_TRUE(made.has_value());
    return std::move(*made);
  }
  virtio::QueueActivation Queue(uint16_t index, uint16_t position = 0) {
    return {.index = index,
            .size = 256,
            .addresses = {},
            .position = {.next_avail = position},
            .kick = &event_,
            .call = &event_};
  }

  Kernel kernel_;
  sys::EventFd event_ = *sys::EventFd::Create();
  memory::GuestMemory memory_ = virtio::testing::Driver::MakeMemory(1 << 20);
};

TEST_F(KernelBackendTest, VsockRunsTwoOfThreeQueues) {
  const auto vsock = Vsock();
  EXPECT_EQ(vsock->info().queue_sizes.size(), 3u);
  uint8_t cid[8];
  ASSERT_TRUE(vsock->ReadConfig(0, cid).has_value());
  EXPECT_EQ(cid[0], 9);
  const virtio::QueueActivation queues[] = {Queue(0), Queue(1), Queue(2)};
  ASSERT_TRUE(vsock->Activate(memory_, kVersion1, queues).has_value());
  EXPECT_EQ(kernel_.Take(),
            (Calls{"features 0x100000000", "memory 1", "ring 0 at 0", "ring 1 at 0", "run"}));
  kernel_.positions = {{0, 17}, {1, 18}};
  const auto positions = vsock->Suspend();
  ASSERT_TRUE(positions.has_value());
  EXPECT_EQ(kernel_.Take(), (Calls{"halt", "take 0", "take 1"}));
  EXPECT_EQ((*positions)[0].next_avail, 17);
  EXPECT_EQ((*positions)[1].next_avail, 18);
  EXPECT_EQ((*positions)[2].next_avail, 0);
  // And goes on from there.
  const virtio::QueueActivation again[] = {Queue(0, 17), Queue(1, 18), Queue(2)};
  ASSERT_TRUE(vsock->Activate(memory_, kVersion1, again).has_value());
  EXPECT_EQ(kernel_.Take(),
            (Calls{"features 0x100000000", "memory 1", "ring 0 at 17", "ring 1 at 18", "run"}));
  ASSERT_TRUE(vsock->Deactivate().has_value());
}

TEST_F(KernelBackendTest, NetTellsTheTapAndTheDriver) {
  const auto net = Net();
  EXPECT_EQ(net->info().features & (kMergeable | kChecksum), kMergeable | kChecksum);
  uint8_t mac[6];
  ASSERT_TRUE(net->ReadConfig(0, mac).has_value());
  EXPECT_EQ(mac[5], 9);
  uint8_t mtu[2];
  ASSERT_TRUE(net->ReadConfig(10, mtu).has_value());
  EXPECT_EQ(mtu[0] | mtu[1] << 8, 1400);
  const virtio::QueueActivation queues[] = {Queue(0), Queue(1)};
  ASSERT_TRUE(net->Activate(memory_, kVersion1 | kChecksum, queues).has_value());
  // The kernel hears of what it has a part in only.
  EXPECT_EQ(kernel_.Take(), (Calls{"features 0x100000000", "memory 1", "ring 0 at 0", "ring 1 at 0",
                                   "offloads 0x100000001", "tap 0 on", "tap 1 on"}));
  ASSERT_TRUE(net->Deactivate().has_value());
  EXPECT_EQ(kernel_.Take(), (Calls{"tap 0 off", "tap 1 off", "take 0", "take 1"}));
  ASSERT_TRUE(net->Deactivate().has_value());
  EXPECT_TRUE(kernel_.Take().empty());
}

TEST_F(KernelBackendTest, AContextIdInUse) {
  kernel_.fail_cid = EADDRINUSE;
  const auto made = VsockBackend::Create("v", std::make_unique<FakeFile>(kernel_), 9);
  ASSERT_FALSE(made.has_value());
  EXPECT_EQ(made.error().kind(), ErrorKind::kBusy);
  EXPECT_TRUE(made.error().ToString().contains("--cid 9: another VM")) << made.error().ToString();
}

TEST_F(KernelBackendTest, AKernelWithoutAFeature) {
  kernel_.features = kVersion1;
  EXPECT_EQ(Vsock()->info().features, kVersion1);
  EXPECT_EQ(Net()->info().features & kMergeable, 0u);
}

TEST_F(KernelBackendTest, FailuresLeaveNothingBehind) {
  const auto vsock = Vsock();
  const virtio::QueueActivation queues[] = {Queue(0), Queue(1), Queue(2)};
  for (const char* call : {"features", "memory", "ring 0", "ring 1", "run"}) {
    kernel_.failing = call;
    EXPECT_FALSE(vsock->Activate(memory_, kVersion1, queues).has_value()) << call;
    kernel_.failing.clear();
    kernel_.Take();
    ASSERT_TRUE(vsock->Activate(memory_, kVersion1, queues).has_value()) << call;
    ASSERT_TRUE(vsock->Deactivate().has_value());
    kernel_.Take();
  }
  ASSERT_TRUE(vsock->Activate(memory_, kVersion1, queues).has_value());
  kernel_.Take();
  kernel_.failing = "halt";
  EXPECT_FALSE(vsock->Deactivate().has_value());
  EXPECT_EQ(kernel_.Take(), (Calls{"halt", "take 0", "take 1"}));
}

TEST_F(KernelBackendTest, Hostile_AQueueThatTheDriverLeavesOut) {
  const auto vsock = Vsock();
  const virtio::QueueActivation queues[] = {Queue(1), Queue(2)};
  const Status status = vsock->Activate(memory_, kVersion1, queues);
  ASSERT_FALSE(status.has_value());
  EXPECT_TRUE(status.error().ToString().contains("queue 0")) << status.error().ToString();
  EXPECT_FALSE(vsock->StartQueue(Queue(0)).has_value());
  EXPECT_FALSE(vsock->StopQueue(0).has_value());
  EXPECT_FALSE(vsock->StopQueue(2).has_value());
  EXPECT_FALSE(vsock->CheckFeatures(uint64_t{1} << 60).has_value());
}

TEST(OpenVhost, ErrorsSayWhatToDo) {
  const auto missing = OpenVhost("/nowhere/vhost-vsock", "--cid", "use something else");
  ASSERT_FALSE(missing.has_value());
  const std::string text = missing.error().ToString();
  for (const char* const part :
       {"--cid", "/nowhere/vhost-vsock", "modprobe vhost_vsock", "use something else"}) {
    EXPECT_TRUE(text.contains(part)) << text;
  }
  const auto other = OpenVhost("/dev/null", "--vhost-net", "leave it out");
  ASSERT_FALSE(other.has_value());
  EXPECT_TRUE(other.error().ToString().contains("is not a vhost device"))
      << other.error().ToString();
}

}  // namespace
}  // namespace crosvm::vhost

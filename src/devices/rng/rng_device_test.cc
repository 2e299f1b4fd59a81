// The entropy device against a driver of ours.
#include "devices/rng/rng_device.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "devices/rng/rng_module.h"
#include "event/test_loop.h"
#include "sys/memfd.h"
#include "virtio/testing/driver.h"
#include "virtio/types.h"

namespace crosvm::devices::rng {
namespace {

using virtio::testing::Driver;
using virtio::testing::Used;

class RngDeviceTest : public ::testing::TestWithParam<bool> {
 protected:
  ~RngDeviceTest() override { Stop(); }
  void Start() {
    device_.Configure(driver_.features());
    ASSERT_TRUE(device_.StartQueue(0, driver_.MakeQueue(nullptr, position_)).has_value());
    running_ = true;
  }
  void Stop() {
    if (!std::exchange(running_, false)) return;
    device_.StopQueue(0, [&](virtio::Queue queue) { position_ = queue.position(); });
    device_.Reset();
  }
  std::vector<Used> Run() {
    driver_.Kick();
    loop_.RunUntilIdle();
    return driver_.AllUsed();
  }

  event::TestLoop loop_;
  Driver driver_{Driver::MakeMemory(8 << 20),
                 {.size = 256, .packed = GetParam(), .area_size = 7 << 20}};
  RngDevice device_{loop_};
  virtio::RingPosition position_;
  bool running_ = false;
};

INSTANTIATE_TEST_SUITE_P(Formats, RngDeviceTest, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "Packed" : "Split"; });

TEST_P(RngDeviceTest, FillsBuffers) {
  Start();
  driver_.Chain().Writable(64).Submit();
  driver_.Chain().Writable(10).Writable(5000).Submit();
  const std::vector<Used> used = Run();
  ASSERT_EQ(used.size(), 2u);
  EXPECT_EQ(used[0].written, 64u);
  EXPECT_EQ(used[1].written, 5010u);
  // 64 zero bytes in a row do not come from a random number generator.
  EXPECT_TRUE(std::any_of(used[0].data.begin(), used[0].data.end(), [](uint8_t b) { return b; }));
  EXPECT_TRUE(
      std::any_of(used[1].data.end() - 64, used[1].data.end(), [](uint8_t b) { return b; }));
  EXPECT_NE(std::vector<uint8_t>(used[1].data.begin(), used[1].data.begin() + 64), used[0].data);
}

TEST_P(RngDeviceTest, OneBufferIsFilledInPartWhenItIsLarge) {
  Start();
  driver_.Chain().Writable(1 << 20).Submit();
  const std::vector<Used> used = Run();
  ASSERT_EQ(used.size(), 1u);
  EXPECT_EQ(used[0].written, 64u << 10);
  EXPECT_EQ(used[0].data.back(), 0);
}

TEST_P(RngDeviceTest, ManyBuffersTakeSeveralTurns) {
  Start();
  for (int i = 0; i < 100; ++i) driver_.Chain().Writable(32 << 10).Submit();
  driver_.Kick();
  ASSERT_TRUE(loop_.RunOnce({}).has_value());
  const size_t first = driver_.AllUsed().size();
  EXPECT_GT(first, 0u);
  EXPECT_LT(first, 100u);
  loop_.RunUntilIdle();
  EXPECT_EQ(first + driver_.AllUsed().size(), 100u);
}

TEST_P(RngDeviceTest, Hostile_NothingToWriteTo) {
  Start();
  driver_.Chain().Readable("give me numbers").Submit();
  const std::vector<Used> used = Run();
  ASSERT_EQ(used.size(), 1u);
  EXPECT_EQ(used[0].written, 0u);
}

TEST_P(RngDeviceTest, Hostile_ABrokenRing) {
  Start();
  driver_.Chain().Raw(uint64_t{1} << 50, 64, VRING_DESC_F_WRITE).Submit();
  EXPECT_TRUE(Run().empty());
}

TEST_P(RngDeviceTest, Hostile_AKickThatCannotBeWatched) {
  // A front-end may send anything for an eventfd; the next, good one is taken.
  sys::EventFd file = sys::EventFd::Adopt(*sys::CreateSealedMemfd("kick", 4096));
  auto queue = virtio::Queue::Create(driver_.memory(), driver_.MakeConfig(), std::move(file), {});
  ASSERT_TRUE(queue.has_value());
  EXPECT_FALSE(device_.StartQueue(0, *std::move(queue)).has_value());
  Start();
  driver_.Chain().Writable(8).Submit();
  EXPECT_EQ(Run().size(), 1u);
}

TEST_P(RngDeviceTest, StopsInTheMiddleAndStartsAgain) {
  Start();
  for (int i = 0; i < 100; ++i) driver_.Chain().Writable(32 << 10).Submit();
  driver_.Kick();
  ASSERT_TRUE(loop_.RunOnce({}).has_value());
  Stop();
  loop_.RunUntilIdle();
  const size_t before = driver_.AllUsed().size();
  EXPECT_LT(before, 100u);
  Start();
  loop_.RunUntilIdle();
  EXPECT_EQ(before + driver_.AllUsed().size(), 100u);
}

TEST(RngModuleTest, TakesNoOptions) {
  event::TestLoop loop;
  EXPECT_FALSE(kRngModule.prepare("fast").has_value());
  auto prepared = kRngModule.prepare("");
  ASSERT_TRUE(prepared.has_value());
  const auto device = kRngModule.create(std::move(*prepared), {.loop = loop});
  ASSERT_TRUE(device.has_value());
  EXPECT_EQ((*device)->info().config_size, 0u);
}

}  // namespace
}  // namespace crosvm::devices::rng

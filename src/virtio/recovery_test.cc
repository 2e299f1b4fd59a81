// What is in memory after each single store of a device: the order in which results become visible
// (payload, used element, index), and that a successor of a device that died there completes every
// request exactly once.
#include <gtest/gtest.h>

#include <set>

#include "sys/memfd.h"
#include "virtio/queue.h"
#include "virtio/testing/driver.h"
#include "virtio/testing/ring_format.h"
#include "virtio/testing/store_recorder.h"
#include "virtio/types.h"

namespace crosvm::virtio {
namespace {

using testing::Driver;
using testing::StoreRecorder;

constexpr size_t kMemory = 0x1000;  // ring and buffers; small, for each state is a copy of it
constexpr size_t kRecords = 0x1000;
constexpr uint16_t kSize = 4;

class RecoveryTest : public ::testing::TestWithParam<testing::RingFormat> {
 protected:
  RecoveryTest() {
    const sys::UniqueFd fd = *sys::CreateSealedMemfd("records", kRecords);
    records_ = std::make_shared<sys::MappedRegion>(
        *sys::MappedRegion::Shared(fd, 0, kRecords, sys::MapAccess::kReadWrite));
  }
  std::unique_ptr<InflightQueue> Records() {
    return *InflightQueue::Create(records_, 0, kSize, GetParam().packed);
  }
  uint8_t* GuestBytes() const {
    // SAFETY: the test's own RAM, for the recorder.
    return reinterpret_cast<uint8_t*>(memory_.regions()[0].host_address);
  }
  std::vector<StoreRecorder::State> Record(const std::function<void()>& work) {
    const StoreRecorder::Range ranges[] = {{GuestBytes(), kMemory}, {records_->data(), kRecords}};
    return StoreRecorder::Record(ranges, work);
  }
  void Restore(const StoreRecorder::State& state) {
    memcpy(GuestBytes(), state.data(), kMemory);
    memcpy(records_->data(), state.data() + kMemory, kRecords);
  }
  Driver MakeDriver() {
    memory_.Slice(memory::GuestAddr(0), kMemory)->Zero();
    memset(records_->data(), 0, kRecords);
    return Driver(memory_, {.size = kSize,
                            .packed = GetParam().packed,
                            .event_idx = GetParam().event_idx,
                            .area = memory::GuestAddr(0),
                            .area_size = kMemory});
  }
  static std::string Text(const Chain& chain) {
    SliceReader reader(chain.readable());
    std::string text(reader.remaining(), '\0');
    EXPECT_TRUE(reader.Read({reinterpret_cast<uint8_t*>(text.data()), text.size()}));
    return text;
  }
  static void Answer(Queue& queue, Chain chain) {
    const std::string text = Text(chain);
    SliceWriter writer(chain.writable());
    EXPECT_TRUE(writer.Write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
    queue.Complete(std::move(chain), static_cast<uint32_t>(text.size()));
  }

  memory::GuestMemory memory_ = Driver::MakeMemory(kMemory);
  std::shared_ptr<sys::MappedRegion> records_;
};

INSTANTIATE_TEST_SUITE_P(Formats, RecoveryTest, ::testing::ValuesIn(testing::kRingFormats),
                         testing::RingFormatName);

TEST_P(RecoveryTest, ResultsAreCompleteWhenTheyBecomeVisible) {
  Driver driver = MakeDriver();
  driver.Chain().Readable("one").Writable(8).Submit();
  driver.Chain().Readable("two").Writable(8).Submit();
  std::optional<Queue> queue = driver.MakeQueue(Records());
  const std::vector<StoreRecorder::State> states = Record([&] {
    while (std::optional<Chain> chain = queue->Pop()) Answer(*queue, *std::move(chain));
    queue->Flush();
  });
  ASSERT_GT(states.size(), 5u);
  size_t visible_before = 0;
  for (const StoreRecorder::State& state : states) {
    Restore(state);
    Driver looker = driver.Clone();
    const std::vector<testing::Used> used = looker.AllUsed();
    // The batch appears at once and whole.
    ASSERT_TRUE(used.empty() || used.size() == 2u);
    EXPECT_GE(used.size(), visible_before);
    visible_before = used.size();
    for (size_t i = 0; i < used.size(); ++i) {
      EXPECT_EQ(used[i].written, 3u);
      EXPECT_EQ(std::string(used[i].data.begin(), used[i].data.begin() + 3),
                i == 0 ? "one" : "two");
    }
  }
  EXPECT_EQ(visible_before, 2u);
}

// The device's whole life is recorded once; then, for each state, a successor takes over there.
TEST_P(RecoveryTest, DeathAfterAnyStore) {
  // Laps before, so that the ring's wrap falls into the recorded part at every offset.
  for (int lead = 0; lead < 9; ++lead) {
    Driver driver = MakeDriver();
    RingPosition position;
    {
      Queue queue = driver.MakeQueue(Records());
      for (int i = 0; i < lead; ++i) {
        driver.Chain().Writable(8).Submit();
        queue.Complete(*queue.Pop(), 0);
        queue.Flush();
        ASSERT_TRUE(driver.NextUsed());
      }
      position = queue.position();
    }
    driver.Chain().Readable("a").Writable(8).Submit();
    driver.Chain().Readable("b").Writable(8).Submit();
    std::optional<Queue> queue = driver.MakeQueue(Records(), position);
    const std::vector<StoreRecorder::State> states = Record([&] {
      std::vector<Chain> chains;
      while (std::optional<Chain> chain = queue->Pop()) chains.push_back(*std::move(chain));
      // Undone and taken again, completed out of order, once alone and once in a batch.
      queue->Undo(std::move(chains[1]));
      chains[1] = *queue->Pop();
      std::swap(chains[0], chains[1]);
      for (Chain& chain : chains) Answer(*queue, std::move(chain));
      queue->Flush();
    });
    ASSERT_GT(states.size(), 10u);
    for (size_t step = 0; step < states.size(); ++step) {
      SCOPED_TRACE("lead " + std::to_string(lead) + ", died after store " + std::to_string(step));
      Restore(states[step]);
      Driver guest = driver.Clone();
      // The guest may have seen what was published by then.
      std::multiset<std::string> finished;
      const auto collect = [&] {
        for (const testing::Used& used : guest.AllUsed()) {
          finished.insert(std::string(used.data.begin(), used.data.begin() + used.written));
        }
      };
      collect();
      Queue successor = guest.MakeQueue(Records(), position);
      // One at a time, so that what the dead one had prepared behind would be found by the guest.
      while (std::optional<Chain> chain = successor.Pop()) {
        Answer(successor, *std::move(chain));
        successor.Flush();
        collect();
      }
      EXPECT_FALSE(successor.broken());
      EXPECT_EQ(finished, (std::multiset<std::string>{"a", "b"}));
      EXPECT_EQ(guest.outstanding(), 0u);
      // And the ring goes on.
      guest.Chain().Readable("next").Writable(8).Submit();
      std::optional<Chain> next = successor.Pop();
      ASSERT_TRUE(next);
      EXPECT_EQ(Text(*next), "next");
      successor.Complete(*std::move(next), 0);
      successor.Flush();
      EXPECT_TRUE(guest.NextUsed());
    }
  }
}

TEST_P(RecoveryTest, DeathWhileRecovering) {
  Driver driver = MakeDriver();
  driver.Chain().Readable("a").Writable(8).Submit();
  driver.Chain().Readable("b").Writable(8).Submit();
  std::optional<Queue> queue = driver.MakeQueue(Records());
  const std::vector<StoreRecorder::State> first = Record([&] {
    std::vector<Chain> chains;
    while (std::optional<Chain> chain = queue->Pop()) chains.push_back(*std::move(chain));
    for (Chain& chain : chains) Answer(*queue, std::move(chain));
    queue->Flush();
  });
  for (const StoreRecorder::State& died : first) {
    Restore(died);
    const std::vector<StoreRecorder::State> second =
        Record([&] { Queue queue2 = driver.Clone().MakeQueue(Records()); });
    for (const StoreRecorder::State& state : second) {
      Restore(state);
      Driver guest = driver.Clone();
      Queue successor = guest.MakeQueue(Records());
      size_t finished = guest.AllUsed().size();
      while (std::optional<Chain> chain = successor.Pop()) {
        Answer(successor, *std::move(chain));
        successor.Flush();
        finished += guest.AllUsed().size();
      }
      EXPECT_EQ(finished, 2u);
    }
  }
}

TEST_P(RecoveryTest, Hostile_Records) {
  // Any bytes at all: creation fails or the queue works on something bounded.
  for (unsigned seed = 0; seed < 300; ++seed) {
    Driver driver = MakeDriver();
    driver.Chain().Readable("a").Writable(8).Submit();
    unsigned state = seed * 2654435761u + 1;
    for (size_t i = 0; i < 256; ++i) {
      state = state * 1664525u + 1013904223u;
      records_->data()[i] = static_cast<uint8_t>(seed % 3 == 0 ? state >> 24 : (state >> 24) % 5);
    }
    Result<Queue> queue = Queue::Create(memory_, driver.MakeConfig(), {}, {}, Records());
    if (!queue) continue;
    int popped = 0;
    while (std::optional<Chain> chain = queue->Pop()) {
      queue->Complete(*std::move(chain), 0);
      ASSERT_LE(++popped, 2 * kSize);
    }
    queue->Flush();
  }
}

// Used elements of an open batch are in memory already, but their records are taken until the batch
// is published.
TEST_P(RecoveryTest, Hostile_SlotsComeBackBeforeTheirBatchIsPublished) {
  if (!GetParam().packed) return;
  Driver driver = MakeDriver();
  for (int i = 0; i < kSize; ++i) driver.Chain().Readable("x").Submit();
  Queue queue = driver.MakeQueue(Records());
  std::vector<Chain> chains;
  while (std::optional<Chain> chain = queue.Pop()) chains.push_back(*std::move(chain));
  ASSERT_EQ(chains.size(), size_t{kSize});
  const std::vector<uint8_t> behind(InflightQueue::BytesPerQueue(kSize, true), 0);
  for (int i = 0; i < kSize - 1; ++i) queue.Complete(std::move(chains[i]), 0);
  for (uint16_t slot = 0; slot < kSize - 1; ++slot) {
    // How an available descriptor looks in the second lap.
    driver.PokeDescriptor(slot, 0, 1, static_cast<uint16_t>(100 + slot),
                          1 << VRING_PACKED_DESC_F_USED);
  }
  EXPECT_FALSE(queue.Pop());
  EXPECT_TRUE(queue.broken());
  EXPECT_EQ(memcmp(records_->data() + behind.size(), behind.data(), behind.size()), 0)
      << "the records of the next queue";
  queue.Complete(std::move(chains.back()), 0);
  queue.Flush();
  EXPECT_EQ(queue.chains_in_flight(), 0u);
}

TEST(InflightQueue, MustFitItsRegion) {
  auto region = std::make_shared<sys::MappedRegion>(*sys::MappedRegion::Anonymous(4096));
  EXPECT_TRUE(InflightQueue::Create(region, 0, 64, false).has_value());
  EXPECT_FALSE(InflightQueue::Create(region, 4096, 64, false).has_value());
  EXPECT_FALSE(InflightQueue::Create(region, 64, 255, false).has_value());
  EXPECT_FALSE(InflightQueue::Create(region, ~uint64_t{63}, 64, false).has_value());
  EXPECT_FALSE(InflightQueue::Create(region, 4, 1, false).has_value());
  EXPECT_FALSE(InflightQueue::Create(region, 0, 0, true).has_value());
  EXPECT_EQ(InflightQueue::BytesPerQueue(128, false), 16u + 128 * 16 + 48);
  EXPECT_EQ(InflightQueue::BytesPerQueue(128, true) % 64, 0u);
}

}  // namespace
}  // namespace crosvm::virtio

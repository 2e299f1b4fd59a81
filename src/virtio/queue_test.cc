// The rules of virtio 1.2, chapters 2.6 to 2.8, each for split and packed rings, with and without
// EVENT_IDX.
#include "virtio/queue.h"

#include <gtest/gtest.h>

#include <string>

#include "base/endian.h"
#include "virtio/testing/driver.h"
#include "virtio/testing/ring_format.h"
#include "virtio/types.h"

namespace crosvm::virtio {
namespace {

using testing::Driver;
using testing::DriverOptions;
using testing::Used;

std::string ReadAll(const Chain& chain) {
  SliceReader reader(chain.readable());
  std::string text(reader.remaining(), '\0');
  EXPECT_TRUE(reader.Read({reinterpret_cast<uint8_t*>(text.data()), text.size()}));
  return text;
}

// Completes with the given text in the writable part.
void Answer(Queue& queue, Chain chain, std::string_view text) {
  SliceWriter writer(chain.writable());
  EXPECT_TRUE(writer.Write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  queue.Complete(std::move(chain), static_cast<uint32_t>(writer.written()));
}

std::string Text(const Used& used) {
  return std::string(used.data.begin(), used.data.begin() + used.written);
}

class QueueTest : public testing::RingFormatTest {};

INSTANTIATE_TEST_SUITE_P(Formats, QueueTest, ::testing::ValuesIn(testing::kRingFormats),
                         testing::RingFormatName);

TEST_P(QueueTest, EmptyQueueGivesNothing) {
  Queue queue = driver_.MakeQueue();
  EXPECT_FALSE(queue.Pop());
  EXPECT_FALSE(queue.broken());
}

TEST_P(QueueTest, RequestAndAnswer) {
  Queue queue = driver_.MakeQueue();
  const uint16_t id =
      driver_.Chain().Readable("pi").Readable("ng").Writable(3).Writable(3).Submit();
  std::optional<Chain> chain = queue.Pop();
  ASSERT_TRUE(chain);
  EXPECT_EQ(chain->id(), id);
  EXPECT_EQ(chain->readable_bytes(), 4u);
  EXPECT_EQ(chain->writable_bytes(), 6u);
  EXPECT_EQ(ReadAll(*chain), "ping");
  EXPECT_EQ(queue.chains_in_flight(), 1u);
  Answer(queue, *std::move(chain), "pong");
  EXPECT_FALSE(driver_.NextUsed()) << "visible before Flush";
  queue.Flush();
  const std::optional<Used> used = driver_.NextUsed();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->id, id);
  EXPECT_EQ(Text(*used), "pong");
  EXPECT_FALSE(driver_.NextUsed());
  EXPECT_EQ(queue.chains_in_flight(), 0u);
}

TEST_P(QueueTest, ManyLapsOverTheRing) {
  // Three descriptors a chain do not divide the ring: every alignment and both wrap parities come
  // up.
  Queue queue = driver_.MakeQueue();
  for (int i = 0; i < 70000; ++i) {
    const std::string text = std::to_string(i);
    driver_.Chain().Readable("x").Readable(text).Writable(8).Submit();
    std::optional<Chain> chain = queue.Pop();
    ASSERT_TRUE(chain) << i;
    ASSERT_EQ(ReadAll(*chain), "x" + text);
    Answer(queue, *std::move(chain), text);
    queue.Flush();
    const std::optional<Used> used = driver_.NextUsed();
    ASSERT_TRUE(used) << i;
    ASSERT_EQ(Text(*used), text);
  }
  EXPECT_FALSE(queue.broken());
}

TEST_P(QueueTest, IndirectChains) {
  Queue queue = driver_.MakeQueue();
  for (int i = 0; i < 40; ++i) {
    // Longer than the ring, as drivers do.
    testing::ChainSpec spec = driver_.Chain();
    std::string all;
    for (int part = 0; part < 20; ++part) {
      spec.Readable(std::to_string(part));
      all += std::to_string(part);
    }
    spec.Writable(4).Indirect().Submit();
    std::optional<Chain> chain = queue.Pop();
    ASSERT_TRUE(chain);
    EXPECT_EQ(ReadAll(*chain), all);
    EXPECT_EQ(chain->writable_bytes(), 4u);
    Answer(queue, *std::move(chain), "ok");
    queue.Flush();
    ASSERT_TRUE(driver_.NextUsed());
  }
}

TEST_P(QueueTest, ChainsMayBeCompletedInAnyOrder) {
  Queue queue = driver_.MakeQueue();
  for (int round = 0; round < 100; ++round) {
    for (const char* text : {"a", "bb", "ccc"}) driver_.Chain().Readable(text).Writable(9).Submit();
    std::vector<Chain> chains;
    while (std::optional<Chain> chain = queue.Pop()) chains.push_back(*std::move(chain));
    ASSERT_EQ(chains.size(), 3u);
    for (const size_t i : {2u, 0u, 1u}) {
      const std::string text = ReadAll(chains[i]);
      Answer(queue, std::move(chains[i]), text);
    }
    queue.Flush();
    const std::vector<Used> used = driver_.AllUsed();
    ASSERT_EQ(used.size(), 3u);
    EXPECT_EQ(Text(used[0]), "ccc");
    EXPECT_EQ(Text(used[1]), "a");
    EXPECT_EQ(Text(used[2]), "bb");
  }
}

TEST_P(QueueTest, FullRing) {
  Queue queue = driver_.MakeQueue();
  for (int lap = 0; lap < 5; ++lap) {
    for (int i = 0; i < 16; ++i) driver_.Chain().Writable(4).Submit();
    std::vector<Chain> chains;
    while (std::optional<Chain> chain = queue.Pop()) chains.push_back(*std::move(chain));
    ASSERT_EQ(chains.size(), 16u);
    EXPECT_FALSE(queue.broken());
    for (Chain& chain : chains) queue.Complete(std::move(chain), 0);
    driver_.Interrupts();
    driver_.EnableInterrupts(true);
    queue.Flush();
    EXPECT_EQ(driver_.Interrupts(), 1u) << "one interrupt a batch";
    EXPECT_EQ(driver_.AllUsed().size(), 16u);
  }
}

TEST_P(QueueTest, AChainAsLongAsTheRing) {
  Queue queue = driver_.MakeQueue();
  for (int lap = 0; lap < 3; ++lap) {
    testing::ChainSpec spec = driver_.Chain();
    for (int i = 0; i < 16; ++i) spec.Writable(1);
    spec.Submit();
    std::optional<Chain> chain = queue.Pop();
    ASSERT_TRUE(chain);
    EXPECT_EQ(chain->writable_bytes(), 16u);
    driver_.EnableInterrupts(true);
    queue.Complete(*std::move(chain), 16);
    queue.Flush();
    EXPECT_EQ(driver_.Interrupts(), 1u);
    ASSERT_TRUE(driver_.NextUsed());
  }
}

TEST_P(QueueTest, UndoGivesTheSameChainAgain) {
  Queue queue = driver_.MakeQueue();
  driver_.Chain().Readable("first").Readable("x").Submit();
  driver_.Chain().Readable("second").Submit();
  for (int i = 0; i < 40; ++i) {
    Chain first = *queue.Pop();
    Chain second = *queue.Pop();
    EXPECT_EQ(ReadAll(first), "firstx");
    EXPECT_EQ(ReadAll(second), "second");
    queue.Undo(std::move(second));
    queue.Undo(std::move(first));
    EXPECT_EQ(queue.chains_in_flight(), 0u);
  }
  queue.Complete(*queue.Pop(), 0);
  Chain second = *queue.Pop();
  queue.Undo(std::move(second));
  queue.Complete(*queue.Pop(), 0);
  queue.Flush();
  EXPECT_EQ(driver_.AllUsed().size(), 2u);
}

TEST_P(QueueTest, InterruptsCanBeSwitchedOff) {
  Queue queue = driver_.MakeQueue();
  const auto one = [&] {
    driver_.Chain().Writable(1).Submit();
    queue.Complete(*queue.Pop(), 0);
    queue.Flush();
    return driver_.Interrupts();
  };
  for (int i = 0; i < 40; ++i) {
    driver_.EnableInterrupts(false);
    EXPECT_EQ(one(), 0u);
    EXPECT_TRUE(driver_.NextUsed());
    driver_.EnableInterrupts(true);
    EXPECT_EQ(one(), 1u);
    EXPECT_TRUE(driver_.NextUsed());
  }
}

TEST_P(QueueTest, EventIndexInterruptsWhenPassed) {
  if (!GetParam().event_idx) return;
  Queue queue = driver_.MakeQueue();
  for (int round = 0; round < 50; ++round) {
    driver_.InterruptAfter(3);
    for (int i = 0; i < 3; ++i) {
      driver_.Chain().Writable(1).Submit();
      queue.Complete(*queue.Pop(), 0);
      queue.Flush();
      ASSERT_EQ(driver_.Interrupts(), i == 2 ? 1u : 0u) << round << " " << i;
    }
    // A batch that jumps over the event interrupts too.
    EXPECT_EQ(driver_.AllUsed().size(), 3u);
    driver_.InterruptAfter(2);
    for (int i = 0; i < 5; ++i) driver_.Chain().Writable(1).Submit();
    for (int i = 0; i < 5; ++i) queue.Complete(*queue.Pop(), 0);
    queue.Flush();
    ASSERT_EQ(driver_.Interrupts(), 1u) << round;
    EXPECT_EQ(driver_.AllUsed().size(), 5u);
  }
}

TEST_P(QueueTest, NotificationsAreWantedOnlyWhenTheQueueRanEmpty) {
  Queue queue = driver_.MakeQueue();
  for (int round = 0; round < 50; ++round) {
    ASSERT_FALSE(queue.Pop());
    driver_.Chain().Writable(1).Submit();
    EXPECT_TRUE(driver_.KickWanted()) << round;
    Chain chain = *queue.Pop();
    queue.SuppressNotifications();
    driver_.Chain().Writable(1).Submit();
    EXPECT_FALSE(driver_.KickWanted()) << round;
    queue.Complete(std::move(chain), 0);
    queue.Complete(*queue.Pop(), 0);
    ASSERT_FALSE(queue.Pop());
    queue.Flush();
    EXPECT_EQ(driver_.AllUsed().size(), 2u);
  }
}

// A device that looks for a while before it sleeps.
TEST_P(QueueTest, LookingLeavesNotificationsOff) {
  Queue queue = driver_.MakeQueue();
  for (int round = 0; round < 20; ++round) {
    EXPECT_FALSE(queue.EnableNotifications()) << round;
    driver_.Chain().Writable(1).Submit();
    EXPECT_TRUE(driver_.KickWanted()) << round;
    queue.SuppressNotifications();
    ASSERT_TRUE(queue.HasAvailable());
    queue.Complete(*queue.Pop(), 0);
    EXPECT_FALSE(queue.HasAvailable());
    driver_.Chain().Writable(1).Submit();
    EXPECT_FALSE(driver_.KickWanted()) << round;
    EXPECT_TRUE(queue.EnableNotifications()) << "it came before";
    queue.SuppressNotifications();
    queue.Complete(*queue.Pop(), 0);
    queue.Flush();
    EXPECT_EQ(driver_.AllUsed().size(), 2u);
  }
}

TEST_P(QueueTest, SignalUsedAlwaysInterrupts) {
  Queue queue = driver_.MakeQueue();
  driver_.EnableInterrupts(false);
  queue.SignalUsed();
  EXPECT_EQ(driver_.Interrupts(), 1u);
  queue.Flush();
  EXPECT_EQ(driver_.Interrupts(), 0u) << "nothing was completed";
}

TEST_P(QueueTest, ContinuesWhereAnotherQueueStopped) {
  RingPosition position;
  for (int life = 0; life < 60; ++life) {
    Queue queue = driver_.MakeQueue(nullptr, position);
    driver_.Chain().Readable("a").Readable("b").Writable(1).Submit();
    driver_.Chain().Readable("left").Submit();
    queue.Complete(*queue.Pop(), 0);
    queue.Flush();
    EXPECT_EQ(driver_.AllUsed().size(), 1u);
    position = RingPosition::FromVringBase(queue.position().ToVringBase(GetParam().packed),
                                           GetParam().packed);
    Queue next = driver_.MakeQueue(nullptr, position);
    Chain left = *next.Pop();
    EXPECT_EQ(ReadAll(left), "left");
    next.Complete(std::move(left), 0);
    next.Flush();
    EXPECT_EQ(driver_.AllUsed().size(), 1u);
    position = next.position();
  }
}

TEST_P(QueueTest, AbandonedChainsAreNotReported) {
  Queue queue = driver_.MakeQueue();
  driver_.Chain().Writable(1).Submit();
  queue.Abandon(*queue.Pop());
  queue.Flush();
  EXPECT_EQ(queue.chains_in_flight(), 0u);
  EXPECT_FALSE(driver_.NextUsed());
}

TEST_P(QueueTest, AQueueWithoutCallEventWorks) {
  Queue queue = driver_.MakeQueue();
  queue.SetCall(sys::EventFd());
  driver_.Chain().Writable(1).Submit();
  queue.Complete(*queue.Pop(), 0);
  queue.Flush();
  EXPECT_TRUE(driver_.NextUsed());
}

TEST_P(QueueTest, BuffersMayCrossIntoAnAdjacentRegion) {
  const memory::RegionLayout layout[] = {{memory::GuestAddr(0), 0x200000},
                                         {memory::GuestAddr(0x200000), 0x1000}};
  const memory::GuestMemory memory = *memory::GuestMemory::Create(layout);
  Driver driver(memory, Options());
  Queue queue = driver.MakeQueue();
  driver.Chain().Raw(0x200000 - 4, 8, 0).Raw(0x200ffc, 4, VRING_DESC_F_WRITE).Submit();
  Chain chain = *queue.Pop();
  EXPECT_EQ(chain.readable().size(), 2u);
  EXPECT_EQ(chain.writable().size(), 1u);
  EXPECT_EQ(chain.readable_bytes(), 8u);
  queue.Complete(std::move(chain), 0);
}

// Refusals at creation.

TEST_P(QueueTest, BadConfigurationsAreRefused) {
  const auto refused = [&](QueueConfig config) {
    const Result<Queue> queue = Queue::Create(memory_, config, {}, {});
    return !queue.has_value() && queue.error().kind() == ErrorKind::kInvalidArgument;
  };
  const QueueConfig good = driver_.MakeConfig();
  EXPECT_FALSE(refused(good));
  for (const int size : {0, 32769, 65535}) {
    QueueConfig config = good;
    config.size = static_cast<uint16_t>(size);
    EXPECT_TRUE(refused(config)) << size;
  }
  for (memory::GuestAddr RingAddresses::* area :
       {&RingAddresses::descriptors, &RingAddresses::driver, &RingAddresses::device}) {
    for (const uint64_t address : {uint64_t{0x400000}, uint64_t{0x3fffff}, ~uint64_t{0},
                                   ~uint64_t{15}, good.addresses.descriptors.value() + 1}) {
      QueueConfig config = good;
      config.addresses.*area = memory::GuestAddr(address);
      EXPECT_TRUE(refused(config)) << std::hex << address;
    }
  }
  if (GetParam().packed) {
    QueueConfig config = good;
    config.position.next_avail = 16;
    EXPECT_TRUE(refused(config));
  } else {
    QueueConfig config = good;
    config.size = 12;
    EXPECT_TRUE(refused(config));
  }
}

TEST(SplitQueue, DirectDescriptorsMayPrecedeAnIndirectOne) {
  // virtio 1.2, 2.7.5.3.2
  const memory::GuestMemory memory = Driver::MakeMemory();
  Driver driver(memory);
  Queue queue = driver.MakeQueue();
  const memory::GuestAddr table = driver.Allocate(16);
  ASSERT_TRUE(memory.Write(memory::GuestAddr(table.value() + 8), Le32(5)));
  driver.Chain().Readable("abc").Raw(table.value(), 16, VRING_DESC_F_INDIRECT).Submit();
  Chain chain = *queue.Pop();
  EXPECT_EQ(chain.readable_bytes(), 8u);
  queue.Complete(std::move(chain), 0);
}

TEST(PackedQueue, SizesNeedNotBePowersOfTwo) {
  const memory::GuestMemory memory = Driver::MakeMemory();
  Driver driver(memory, {.size = 7, .packed = true, .event_idx = true});
  Queue queue = driver.MakeQueue();
  for (int i = 0; i < 100; ++i) {
    driver.Chain().Readable("abc").Writable(4).Submit();
    driver.InterruptAfter(1);
    queue.Complete(*queue.Pop(), 4);
    queue.Flush();
    ASSERT_EQ(driver.Interrupts(), 1u) << i;
    ASSERT_TRUE(driver.NextUsed());
  }
}

TEST(RingPosition, VringBaseFormats) {
  const RingPosition position{
      .next_avail = 0x123, .avail_wrap = false, .next_used = 0x7ffe, .used_wrap = true};
  EXPECT_EQ(position.ToVringBase(true), 0xfffe0123u);
  EXPECT_EQ(position.ToVringBase(false), 0x123u);
  const RingPosition back = RingPosition::FromVringBase(0xfffe0123u, true);
  EXPECT_EQ(back.next_used, 0x7ffe);
  EXPECT_TRUE(back.used_wrap);
  EXPECT_FALSE(back.avail_wrap);
  EXPECT_EQ(RingPosition::FromVringBase(0xfffe, false).next_avail, 0xfffe);
}

TEST(QueueDeathTest, ADroppedChainIsABugOfOurs) {
  const memory::GuestMemory memory = Driver::MakeMemory();
  Driver driver(memory);
  Queue queue = driver.MakeQueue();
  driver.Chain().Readable("x").Submit();
  EXPECT_DEATH((void)queue.Pop(), "not completed");
}

}  // namespace
}  // namespace crosvm::virtio

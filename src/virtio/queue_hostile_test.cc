// Hostile rings: each breaks the queue, none does more.
#include <gtest/gtest.h>

#include "base/endian.h"
#include "virtio/queue.h"
#include "virtio/testing/driver.h"
#include "virtio/testing/ring_format.h"
#include "virtio/types.h"

namespace crosvm::virtio {
namespace {

using testing::Driver;
using testing::DriverOptions;

class HostileQueueTest : public testing::RingFormatTest {
 protected:
  // Submits the chain to a new queue; true when the queue is broken by it.
  bool Breaks(testing::ChainSpec& spec) {
    Queue queue = driver_.MakeQueue();
    spec.Submit();
    return BreaksNow(queue);
  }
  static bool BreaksNow(Queue& queue) {
    sys::EventFd error = *sys::EventFd::Create();
    queue.SetErrorEvent(*error.Dup());
    std::optional<Chain> chain = queue.Pop();
    if (chain) queue.Abandon(*std::move(chain));
    EXPECT_EQ(queue.broken(), !chain.has_value());
    EXPECT_EQ(error.Drain(), queue.broken() ? 1u : 0u);
    if (queue.broken()) {
      EXPECT_FALSE(queue.Pop()) << "a broken queue gives nothing";
    }
    return queue.broken();
  }
};

// EVENT_IDX changes nothing of what a chain may be.
INSTANTIATE_TEST_SUITE_P(Formats, HostileQueueTest,
                         ::testing::Values(testing::RingFormat{.packed = false},
                                           testing::RingFormat{.packed = true}),
                         testing::RingFormatName);

TEST_P(HostileQueueTest, Hostile_BadBuffers) {
  struct Case {
    uint64_t address;
    uint32_t length;
  };
  for (const Case& bad :
       {Case{0x400000, 1}, Case{0x3fffff, 2}, Case{~uint64_t{0}, 1}, Case{~uint64_t{0} - 3, 16},
        Case{0, 0xffffffff}, Case{1ull << 63, 4096}}) {
    Driver driver(memory_, Options());
    Queue queue = driver.MakeQueue();
    driver.Chain().Readable("good").Raw(bad.address, bad.length, 0).Submit();
    EXPECT_TRUE(BreaksNow(queue)) << std::hex << bad.address;
  }
}

TEST_P(HostileQueueTest, Hostile_ReadableAfterWritable) {
  EXPECT_TRUE(Breaks(driver_.Chain().Writable(4).Readable("late")));
}

TEST_P(HostileQueueTest, Hostile_ReadableAfterWritableInATable) {
  EXPECT_TRUE(Breaks(driver_.Chain().Writable(4).Readable("late").Indirect()));
}

TEST_P(HostileQueueTest, Hostile_UnknownFlags) {
  EXPECT_TRUE(Breaks(driver_.Chain().Raw(0, 4, 0x40)));
}

TEST_P(HostileQueueTest, Hostile_NestedIndirect) {
  const memory::GuestAddr table = driver_.Allocate(16);
  EXPECT_TRUE(Breaks(driver_.Chain().Raw(table.value(), 16, VRING_DESC_F_INDIRECT).Indirect()));
}

TEST_P(HostileQueueTest, Hostile_IndirectWithSuccessor) {
  const memory::GuestAddr table = driver_.Allocate(16);
  EXPECT_TRUE(Breaks(driver_.Chain().Raw(table.value(), 16, VRING_DESC_F_INDIRECT).Writable(4)));
}

TEST_P(HostileQueueTest, Hostile_IndirectLengths) {
  const memory::GuestAddr table = driver_.Allocate(64);
  for (const uint32_t length : {0u, 1u, 15u, 17u, 0xfffffff0u, 0xffffffffu}) {
    Driver driver(memory_, Options());
    Queue queue = driver.MakeQueue();
    driver.Chain().Raw(table.value(), length, VRING_DESC_F_INDIRECT).Submit();
    EXPECT_TRUE(BreaksNow(queue)) << length;
  }
}

TEST_P(HostileQueueTest, Hostile_IndirectWithoutNegotiation) {
  DriverOptions options = Options();
  options.indirect = false;
  Driver driver(memory_, options);
  Queue queue = driver.MakeQueue();
  driver.Chain().Readable("x").Indirect().Submit();
  EXPECT_TRUE(BreaksNow(queue));
}

TEST_P(HostileQueueTest, IndirectWriteFlagIsIgnored) {
  // virtio 1.2, 2.7.5.3.2
  const memory::GuestAddr table = driver_.Allocate(16);
  ASSERT_TRUE(memory_.Write(memory::GuestAddr(table.value() + 8), Le32(4)));
  EXPECT_FALSE(
      Breaks(driver_.Chain().Raw(table.value(), 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE)));
}

TEST_P(HostileQueueTest, Hostile_ChainOfMoreThanFourGibibytes) {
  const memory::RegionLayout layout[] = {{memory::GuestAddr(0), uint64_t{1} << 32}};
  const memory::GuestMemory memory = *memory::GuestMemory::Create(layout);
  Driver driver(memory, Options());
  Queue queue = driver.MakeQueue();
  driver.Chain().Raw(0, 0x80000000, 0).Raw(0, 0x80000000, VRING_DESC_F_WRITE).Submit();
  EXPECT_TRUE(BreaksNow(queue));
  Driver again(memory, Options());
  Queue fits = again.MakeQueue();
  again.Chain().Raw(0, 0x80000000, 0).Raw(0, 0x7fffffff, VRING_DESC_F_WRITE).Submit();
  EXPECT_FALSE(BreaksNow(fits));
}

TEST_P(HostileQueueTest, Hostile_EndlessChain) {
  Queue queue = driver_.MakeQueue();
  driver_.Chain().Readable("x").Submit();
  if (GetParam().packed) {
    for (uint16_t slot = 0; slot < 16; ++slot) {
      driver_.PokeDescriptor(slot, 0, 4, slot,
                             VRING_DESC_F_NEXT | (1 << VRING_PACKED_DESC_F_AVAIL));
    }
  } else {
    for (uint16_t slot = 0; slot < 16; ++slot) {
      driver_.PokeDescriptor(slot, 0, 4, VRING_DESC_F_NEXT, static_cast<uint16_t>((slot + 1) % 16));
    }
  }
  EXPECT_TRUE(BreaksNow(queue));
}

TEST_P(HostileQueueTest, Hostile_TheSameIdTwice) {
  Queue queue = driver_.MakeQueue();
  driver_.Chain().Readable("x").Submit();
  Chain chain = *queue.Pop();
  if (GetParam().packed) {
    driver_.PokeDescriptor(1, 0, 4, chain.id(), 1 << VRING_PACKED_DESC_F_AVAIL);
  } else {
    driver_.PokeAvailable(chain.id());
    driver_.Publish();
  }
  EXPECT_TRUE(BreaksNow(queue));
  queue.Complete(std::move(chain), 0);
  queue.Flush();
  EXPECT_EQ(driver_.AllUsed().size(), 1u);
}

TEST(SplitQueue, Hostile_Indices) {
  const memory::GuestMemory memory = Driver::MakeMemory();
  const auto breaks = [&](auto&& poke) {
    Driver driver(memory);
    Queue queue = driver.MakeQueue();
    poke(driver);
    EXPECT_FALSE(queue.Pop());
    return queue.broken();
  };
  EXPECT_TRUE(breaks([](Driver& driver) { driver.PokeAvailIndex(17); }));
  EXPECT_TRUE(breaks([](Driver& driver) { driver.PokeAvailIndex(0xffff); }));
  EXPECT_TRUE(breaks([](Driver& driver) {
    driver.PokeAvailable(16);
    driver.Publish();
  }));
  EXPECT_TRUE(breaks([](Driver& driver) {
    driver.PokeAvailable(0xffff);
    driver.Publish();
  }));
  EXPECT_TRUE(breaks([](Driver& driver) {
    driver.PokeDescriptor(3, 0, 4, VRING_DESC_F_NEXT, 16);
    driver.PokeAvailable(3);
    driver.Publish();
  }));
  EXPECT_TRUE(breaks([](Driver& driver) {
    driver.PokeDescriptor(3, 0, 4, VRING_DESC_F_NEXT, 3);
    driver.PokeAvailable(3);
    driver.Publish();
  }));
}

TEST(SplitQueue, Hostile_LoopInAnIndirectTable) {
  const memory::GuestMemory memory = Driver::MakeMemory();
  Driver driver(memory);
  Queue queue = driver.MakeQueue();
  const memory::GuestAddr table = driver.Allocate(32);
  struct {
    Le64 address;
    Le32 length;
    Le16 flags;
    Le16 next;
  } entry{.address = 0, .length = 4, .flags = VRING_DESC_F_NEXT, .next = 0};
  ASSERT_TRUE(memory.Write(table, entry));
  driver.Chain().Raw(table.value(), 32, VRING_DESC_F_INDIRECT).Submit();
  EXPECT_FALSE(queue.Pop());
  EXPECT_TRUE(queue.broken());
}

}  // namespace
}  // namespace crosvm::virtio

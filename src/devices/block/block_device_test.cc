// The disk against a driver of ours, on a real file, through both engines and both ring formats.
#include "devices/block/block_device.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstring>
#include <numeric>

#include "devices/block/block_wire.h"
#include "event/test_loop.h"
#include "sys/file.h"
#include "virtio/testing/driver.h"
#include "virtio/types.h"

namespace crosvm::devices::block {
namespace {

using virtio::testing::ChainSpec;
using virtio::testing::Driver;
using virtio::testing::Used;

constexpr uint64_t kDiskBytes = 4 << 20;
constexpr uint64_t kFlushFeature = uint64_t{1} << VIRTIO_BLK_F_FLUSH;

// A file without a name, on a file system that punches holes and knows O_DIRECT.
sys::UniqueFd MakeImage(uint64_t size = kDiskBytes, int flags = 0) {
  char path[] = "/var/tmp/crosvm-block-XXXXXX";
  sys::UniqueFd fd(mkostemp(path, O_CLOEXEC | flags));
  EXPECT_TRUE(fd.valid());
  unlink(path);
  EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(size)), 0);
  return fd;
}

std::vector<uint8_t> Pattern(size_t size, uint8_t seed = 1) {
  std::vector<uint8_t> data(size);
  for (size_t i = 0; i < size; ++i) data[i] = static_cast<uint8_t>(i * 31 + i / 253 + seed);
  return data;
}

RequestHeader Header(uint32_t type, uint64_t sector = 0) {
  return {.type = Le32(type), .reserved = Le32(0), .sector = Le64(sector)};
}

RangeSegment Segment(uint64_t sector, uint32_t sectors, uint32_t flags = 0) {
  return {.sector = Le64(sector), .sectors = Le32(sectors), .flags = Le32(flags)};
}

uint8_t StatusOf(const Used& used) {
  EXPECT_FALSE(used.data.empty());
  return used.data.empty() ? 0xff : used.data.back();
}

// Delegates, and keeps what is submitted until the test lets it go.
class HeldFile : public event::AsyncFile {
 public:
  explicit HeldFile(std::unique_ptr<event::AsyncFile> file) : file_(std::move(file)) {
    file_->OnBatchEnd([this] { EndBatch(); });
  }
  void Submit(event::IoOp& op) override {
    kinds.push_back(op.kind);
    if (hold) {
      held_.push_back(&op);
    } else {
      file_->Submit(op);
    }
  }
  void Flush() override { file_->Flush(); }
  size_t in_flight() const override { return file_->in_flight() + held_.size(); }
  const char* engine() const override { return file_->engine(); }
  void Release() {
    hold = false;
    for (event::IoOp* op : std::exchange(held_, {})) file_->Submit(*op);
    file_->Flush();
  }
  size_t held() const { return held_.size(); }

  bool hold = false;
  std::vector<event::IoKind> kinds;

 private:
  std::unique_ptr<event::AsyncFile> file_;
  std::vector<event::IoOp*> held_;
};

struct Setup {
  event::IoEngine engine = event::IoEngine::kUring;
  bool packed = false;
};

class BlockDeviceTest : public ::testing::TestWithParam<Setup> {
 protected:
  void TearDown() override { Stop(); }

  void Make(DeviceOptions options = {}, int flags = 0) {
    if (options.capacity_bytes == 0) options.capacity_bytes = kDiskBytes;
    sys::UniqueFd image = MakeImage(kDiskBytes, flags);
    image_ = image.Dup().value();
    auto file = event::OpenAsyncFile(loop_, std::move(image), {.engine = GetParam().engine});
    ASSERT_TRUE(file.has_value()) << file.error().ToString();
    auto held = std::make_unique<HeldFile>(*std::move(file));
    file_ = held.get();
    device_ = std::make_unique<BlockDevice>(loop_, std::move(held), options);
  }
  void Start(uint64_t features = kFlushFeature) {
    device_->Configure(driver_.features() | features);
    ASSERT_TRUE(device_->StartQueue(0, driver_.MakeQueue(nullptr, position_)).has_value());
    running_ = true;
  }
  void Begin(DeviceOptions options = {}) {
    Make(std::move(options));
    Start();
  }
  void Stop() {
    if (!running_) return;
    file_->Release();
    bool stopped = false;
    device_->StopQueue(0, [&](virtio::Queue queue) {
      EXPECT_EQ(queue.chains_in_flight(), 0u);
      position_ = queue.position();
      stopped = true;
    });
    EXPECT_TRUE(loop_.RunUntil([&] { return stopped; }));
    device_->Reset();
    running_ = false;
  }

  std::vector<Used> Wait(size_t count) {
    std::vector<Used> all;
    EXPECT_TRUE(loop_.RunUntil([&] {
      for (Used& used : driver_.AllUsed()) all.push_back(std::move(used));
      return all.size() >= count;
    })) << all.size()
        << " of " << count;
    return all;
  }
  // Submits, notifies and waits for the one answer.
  Used Run(ChainSpec& chain) {
    const uint16_t id = chain.Submit();
    driver_.Kick();
    std::vector<Used> all = Wait(1);
    EXPECT_EQ(all.size(), 1u);
    if (all.empty()) return {};
    EXPECT_EQ(all[0].id, id);
    return std::move(all[0]);
  }
  uint8_t Write(uint64_t sector, std::span<const uint8_t> data) {
    auto chain = driver_.Chain();
    return StatusOf(
        Run(chain.ReadableStruct(Header(VIRTIO_BLK_T_OUT, sector)).Readable(data).Writable(1)));
  }
  uint8_t Ranges(uint32_t type, std::span<const RangeSegment> segments) {
    auto chain = driver_.Chain();
    chain.ReadableStruct(Header(type));
    // SAFETY: a wire struct's bytes.
    chain.Readable(
        std::span(reinterpret_cast<const uint8_t*>(segments.data()), segments.size_bytes()));
    return StatusOf(Run(chain.Writable(1)));
  }
  uint8_t OnlyHeader(uint32_t type, uint64_t sector = 0) {
    auto chain = driver_.Chain();
    return StatusOf(Run(chain.ReadableStruct(Header(type, sector)).Writable(1)));
  }
  std::vector<uint8_t> Image(uint64_t offset, size_t size) {
    std::vector<uint8_t> data(size);
    EXPECT_TRUE(sys::PreadExact(image_, data, offset).has_value());
    return data;
  }
  virtio_blk_config Config() {
    virtio_blk_config config{};
    // SAFETY: a packed struct of integers.
    device_->ReadConfig(0, {reinterpret_cast<uint8_t*>(&config), sizeof(config)});
    return config;
  }

  event::TestLoop loop_;
  Driver driver_{
      Driver::MakeMemory(16 << 20),
      {.size = 256, .packed = GetParam().packed, .event_idx = true, .area_size = 12 << 20}};
  sys::UniqueFd image_;
  HeldFile* file_ = nullptr;
  std::unique_ptr<BlockDevice> device_;
  virtio::RingPosition position_;
  bool running_ = false;
};

INSTANTIATE_TEST_SUITE_P(
    Engines, BlockDeviceTest,
    ::testing::Values(Setup{event::IoEngine::kUring, false}, Setup{event::IoEngine::kUring, true},
                      Setup{event::IoEngine::kPool, false}, Setup{event::IoEngine::kPool, true}),
    [](const auto& param) {
      return std::string(param.param.engine == event::IoEngine::kUring ? "Uring" : "Pool") +
             (param.param.packed ? "Packed" : "Split");
    });

TEST_P(BlockDeviceTest, TellsItsShape) {
  Make({.block_size = 4096, .queues = 3});
  const virtio_blk_config config = Config();
  EXPECT_EQ(config.capacity, kDiskBytes / 512);
  EXPECT_EQ(config.blk_size, 4096u);
  EXPECT_EQ(config.num_queues, 3u);
  EXPECT_EQ(config.discard_sector_alignment, 8u);
  EXPECT_EQ(device_->info().queue_sizes.size(), 3u);
  EXPECT_NE(device_->info().features & virtio::FeatureBit(VIRTIO_BLK_F_DISCARD), 0u);
  EXPECT_EQ(device_->info().features & virtio::FeatureBit(VIRTIO_BLK_F_RO), 0u);
}

TEST_P(BlockDeviceTest, WritesAndReadsInSeveralSegments) {
  Begin();
  const std::vector<uint8_t> data = Pattern(5 * 4096);
  auto write = driver_.Chain();
  write.ReadableStruct(Header(VIRTIO_BLK_T_OUT, 8));
  const std::span<const uint8_t> all(data);
  for (size_t i = 0; i < 5; ++i) write.Readable(all.subspan(i * 4096, 4096));
  const Used written = Run(write.Writable(1));
  EXPECT_EQ(StatusOf(written), VIRTIO_BLK_S_OK);
  EXPECT_EQ(written.written, 1u);
  EXPECT_EQ(Image(4096, data.size()), data);

  auto read = driver_.Chain();
  read.ReadableStruct(Header(VIRTIO_BLK_T_IN, 8));
  // Odd cuts: the status is the last byte, wherever the driver cuts (virtio 1.2, 2.7.4).
  read.Writable(100).Writable(4096).Writable(5 * 4096 - 100 - 4096 + 1);
  Used used = Run(read);
  EXPECT_EQ(used.written, data.size() + 1);
  EXPECT_EQ(StatusOf(used), VIRTIO_BLK_S_OK);
  used.data.pop_back();
  EXPECT_EQ(used.data, data);
}

TEST_P(BlockDeviceTest, IndirectChains) {
  Begin();
  const std::vector<uint8_t> data = Pattern(512);
  auto chain = driver_.Chain();
  EXPECT_EQ(
      StatusOf(Run(
          chain.ReadableStruct(Header(VIRTIO_BLK_T_OUT, 3)).Readable(data).Writable(1).Indirect())),
      VIRTIO_BLK_S_OK);
  EXPECT_EQ(Image(3 * 512, 512), data);
}

TEST_P(BlockDeviceTest, FlushSyncs) {
  Begin();
  EXPECT_EQ(OnlyHeader(VIRTIO_BLK_T_FLUSH), VIRTIO_BLK_S_OK);
  EXPECT_EQ(file_->kinds, std::vector{event::IoKind::kDataSync});
}

TEST_P(BlockDeviceTest, WithoutFlushEachWriteIsSynced) {
  Make();
  Start(/*features=*/0);
  EXPECT_EQ(Write(0, Pattern(512)), VIRTIO_BLK_S_OK);
  const RangeSegment zero[] = {Segment(8, 8), Segment(16, 8)};
  EXPECT_EQ(Ranges(VIRTIO_BLK_T_WRITE_ZEROES, zero), VIRTIO_BLK_S_OK);
  using enum event::IoKind;
  EXPECT_EQ(file_->kinds, (std::vector{kWrite, kDataSync, kWriteZeroes, kWriteZeroes, kDataSync}));
}

TEST_P(BlockDeviceTest, ASyncIsNotDoneWhereTheDriverCanAsk) {
  Begin();
  EXPECT_EQ(Write(0, Pattern(512)), VIRTIO_BLK_S_OK);
  EXPECT_EQ(file_->kinds, std::vector{event::IoKind::kWrite});
}

TEST_P(BlockDeviceTest, DiscardsAndWritesZeroes) {
  Begin();
  const std::vector<uint8_t> data = Pattern(64 << 10);
  EXPECT_EQ(Write(0, data), VIRTIO_BLK_S_OK);
  const RangeSegment discard[] = {Segment(0, 8), Segment(16, 0), Segment(32, 8)};
  EXPECT_EQ(Ranges(VIRTIO_BLK_T_DISCARD, discard), VIRTIO_BLK_S_OK);
  const std::vector<uint8_t> zeroes(4096);
  EXPECT_EQ(Image(0, 4096), zeroes);
  EXPECT_EQ(Image(32 * 512, 4096), zeroes);
  EXPECT_EQ(Image(8 * 512, 24 * 512),
            std::vector<uint8_t>(data.begin() + 8 * 512, data.begin() + 32 * 512));
  const RangeSegment zero[] = {Segment(64, 1), Segment(66, 1, 1)};
  EXPECT_EQ(Ranges(VIRTIO_BLK_T_WRITE_ZEROES, zero), VIRTIO_BLK_S_OK);
  EXPECT_EQ(Image(64 * 512, 512), std::vector<uint8_t>(512));
  EXPECT_EQ(Image(66 * 512, 512), std::vector<uint8_t>(512));
  EXPECT_NE(Image(65 * 512, 512), std::vector<uint8_t>(512));
}

TEST_P(BlockDeviceTest, RangesThatAreWrongAreRefusedWhole) {
  Begin();
  const std::vector<uint8_t> data = Pattern(4096);
  EXPECT_EQ(Write(0, data), VIRTIO_BLK_S_OK);
  const RangeSegment unmap[] = {Segment(0, 8, 1)};
  EXPECT_EQ(Ranges(VIRTIO_BLK_T_DISCARD, unmap), VIRTIO_BLK_S_UNSUPP);
  const RangeSegment unknown[] = {Segment(0, 8, 2)};
  EXPECT_EQ(Ranges(VIRTIO_BLK_T_WRITE_ZEROES, unknown), VIRTIO_BLK_S_UNSUPP);
  // The second is beyond the end: the first is not done either.
  const RangeSegment beyond[] = {Segment(0, 8), Segment(kDiskBytes / 512, 1)};
  EXPECT_EQ(Ranges(VIRTIO_BLK_T_DISCARD, beyond), VIRTIO_BLK_S_IOERR);
  const RangeSegment wraps[] = {Segment(UINT64_MAX / 512, UINT32_MAX)};
  EXPECT_EQ(Ranges(VIRTIO_BLK_T_WRITE_ZEROES, wraps), VIRTIO_BLK_S_IOERR);
  const std::vector<RangeSegment> many(kMaxRangeSegments + 1, Segment(0, 1));
  EXPECT_EQ(Ranges(VIRTIO_BLK_T_DISCARD, many), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(OnlyHeader(VIRTIO_BLK_T_DISCARD), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Image(0, 4096), data);
}

TEST_P(BlockDeviceTest, WithoutSparseNoHolesAreMade) {
  Begin({.discard = false});
  EXPECT_EQ(device_->info().features & virtio::FeatureBit(VIRTIO_BLK_F_DISCARD), 0u);
  EXPECT_EQ(Config().write_zeroes_may_unmap, 0);
  const RangeSegment range[] = {Segment(0, 8)};
  EXPECT_EQ(Ranges(VIRTIO_BLK_T_DISCARD, range), VIRTIO_BLK_S_UNSUPP);
  EXPECT_EQ(Write(0, Pattern(1 << 20)), VIRTIO_BLK_S_OK);
  ASSERT_EQ(fsync(image_.get()), 0);
  const struct stat before = *sys::Stat(image_);
  const RangeSegment zero[] = {Segment(0, 2048, 1)};
  EXPECT_EQ(Ranges(VIRTIO_BLK_T_WRITE_ZEROES, zero), VIRTIO_BLK_S_OK);
  ASSERT_EQ(fsync(image_.get()), 0);
  EXPECT_EQ(Image(0, 1 << 20), std::vector<uint8_t>(1 << 20));
  EXPECT_EQ(sys::Stat(image_)->st_blocks, before.st_blocks);
}

TEST_P(BlockDeviceTest, TellsItsId) {
  Begin({.id = "serial-7"});
  auto chain = driver_.Chain();
  const Used used = Run(chain.ReadableStruct(Header(VIRTIO_BLK_T_GET_ID)).Writable(20).Writable(1));
  EXPECT_EQ(StatusOf(used), VIRTIO_BLK_S_OK);
  EXPECT_EQ(std::string(used.data.begin(), used.data.begin() + 20),
            std::string("serial-7") + std::string(12, '\0'));
  auto tight = driver_.Chain();
  EXPECT_EQ(
      StatusOf(Run(tight.ReadableStruct(Header(VIRTIO_BLK_T_GET_ID)).Writable(19).Writable(1))),
      VIRTIO_BLK_S_IOERR);
}

TEST_P(BlockDeviceTest, ReadOnly) {
  Begin({.read_only = true});
  EXPECT_NE(device_->info().features & virtio::FeatureBit(VIRTIO_BLK_F_RO), 0u);
  EXPECT_EQ(device_->info().features & virtio::FeatureBit(VIRTIO_BLK_F_DISCARD), 0u);
  EXPECT_EQ(Write(0, Pattern(512)), VIRTIO_BLK_S_IOERR);
  const RangeSegment range[] = {Segment(0, 8)};
  EXPECT_EQ(Ranges(VIRTIO_BLK_T_DISCARD, range), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Ranges(VIRTIO_BLK_T_WRITE_ZEROES, range), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(OnlyHeader(VIRTIO_BLK_T_FLUSH), VIRTIO_BLK_S_OK);
  EXPECT_TRUE(file_->kinds.empty());
  EXPECT_EQ(Image(0, 512), std::vector<uint8_t>(512));
  EXPECT_FALSE(device_->HandleControl(ResizeDisk{.bytes = 512}).has_value());
}

TEST_P(BlockDeviceTest, ZeroLengthIsNothingToDo) {
  Begin();
  EXPECT_EQ(OnlyHeader(VIRTIO_BLK_T_IN), VIRTIO_BLK_S_OK);
  EXPECT_EQ(OnlyHeader(VIRTIO_BLK_T_OUT), VIRTIO_BLK_S_OK);
  EXPECT_TRUE(file_->kinds.empty());
}

TEST_P(BlockDeviceTest, Hostile_RequestsThatCannotBe) {
  Begin();
  EXPECT_EQ(OnlyHeader(99), VIRTIO_BLK_S_UNSUPP);
  EXPECT_EQ(OnlyHeader(VIRTIO_BLK_T_GET_ID), VIRTIO_BLK_S_UNSUPP);
  // Out of range, wrapping, and not whole sectors.
  EXPECT_EQ(Write(kDiskBytes / 512, Pattern(512)), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Write(kDiskBytes / 512 - 1, Pattern(1024)), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Write(UINT64_MAX, Pattern(512)), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Write(0, Pattern(513)), VIRTIO_BLK_S_IOERR);
  auto odd = driver_.Chain();
  EXPECT_EQ(StatusOf(Run(odd.ReadableStruct(Header(VIRTIO_BLK_T_IN)).Writable(512))),
            VIRTIO_BLK_S_IOERR);
  // No room for a header, or none at all.
  auto cut = driver_.Chain();
  EXPECT_EQ(StatusOf(Run(cut.Readable("short").Writable(1))), VIRTIO_BLK_S_IOERR);
  auto none = driver_.Chain();
  EXPECT_EQ(StatusOf(Run(none.Writable(1))), VIRTIO_BLK_S_IOERR);
  // No room for the status: the chain comes back untouched.
  auto mute = driver_.Chain();
  const Used used = Run(mute.ReadableStruct(Header(VIRTIO_BLK_T_OUT)).Readable(Pattern(512)));
  EXPECT_EQ(used.written, 0u);
  EXPECT_TRUE(file_->kinds.empty());
  EXPECT_EQ(Image(0, 512), std::vector<uint8_t>(512));
}

TEST_P(BlockDeviceTest, Hostile_ABrokenRingStopsTheQueueAndNothingElse) {
  Begin();
  driver_.Chain().Raw(uint64_t{1} << 40, 16, 0).Writable(1).Submit();
  driver_.Kick();
  loop_.RunUntilIdle();
  EXPECT_TRUE(driver_.AllUsed().empty());
  Stop();
}

TEST_P(BlockDeviceTest, TheEndOfATruncatedImageIsAnError) {
  Begin();
  ASSERT_EQ(ftruncate(image_.get(), 4096), 0);
  auto chain = driver_.Chain();
  EXPECT_EQ(
      StatusOf(Run(chain.ReadableStruct(Header(VIRTIO_BLK_T_IN, 4)).Writable(4096).Writable(1))),
      VIRTIO_BLK_S_IOERR);
}

TEST_P(BlockDeviceTest, AFullRingInFlight) {
  Begin();
  file_->hold = true;
  for (uint16_t i = 0; i < 256; ++i) {
    driver_.Chain()
        .ReadableStruct(Header(VIRTIO_BLK_T_OUT, i))
        .Readable(Pattern(512, static_cast<uint8_t>(i)))
        .Writable(1)
        .Indirect()
        .Submit();
  }
  driver_.Kick();
  // Comes to rest: a full house is no reason to spin.
  loop_.RunUntilIdle();
  EXPECT_EQ(file_->held(), 256u);
  driver_.Interrupts();
  file_->Release();
  std::vector<Used> all = Wait(256);
  ASSERT_EQ(all.size(), 256u);
  for (const Used& used : all) EXPECT_EQ(StatusOf(used), VIRTIO_BLK_S_OK);
  for (uint16_t i = 0; i < 256; ++i) {
    EXPECT_EQ(Image(uint64_t{i} * 512, 512), Pattern(512, static_cast<uint8_t>(i)));
  }
  // And the device listens again.
  EXPECT_EQ(Write(0, Pattern(512)), VIRTIO_BLK_S_OK);
}

TEST_P(BlockDeviceTest, SeveralQueuesAtATime) {
  Make({.queues = 3});
  std::vector<Driver> drivers;
  drivers.reserve(3);
  for (uint64_t i = 0; i < 3; ++i) {
    drivers.emplace_back(driver_.memory(), virtio::testing::DriverOptions{
                                               .size = 64,
                                               .packed = GetParam().packed,
                                               .area = memory::GuestAddr(0x1000 + i * 0x200000)});
  }
  device_->Configure(drivers[0].features() | kFlushFeature);
  for (uint16_t q = 0; q < 3; ++q) {
    ASSERT_TRUE(device_->StartQueue(q, drivers[q].MakeQueue()).has_value());
  }
  for (uint16_t round = 0; round < 20; ++round) {
    for (uint16_t q = 0; q < 3; ++q) {
      for (uint16_t i = 0; i < 16; ++i) {
        const uint64_t sector = q * 1000u + round * 16u + i;
        drivers[q]
            .Chain()
            .ReadableStruct(Header(VIRTIO_BLK_T_OUT, sector))
            .Readable(Pattern(512, static_cast<uint8_t>(sector)))
            .Writable(1)
            .Submit();
      }
      drivers[q].Kick();
    }
    for (Driver& driver : drivers) {
      EXPECT_TRUE(loop_.RunUntil([&] {
        for (const Used& used : driver.AllUsed()) EXPECT_EQ(StatusOf(used), VIRTIO_BLK_S_OK);
        return driver.outstanding() == 0;
      }));
    }
  }
  for (uint64_t sector : {0u, 319u, 1000u, 1319u, 2000u, 2319u}) {
    EXPECT_EQ(Image(sector * 512, 512), Pattern(512, static_cast<uint8_t>(sector)));
  }
  size_t stopped = 0;
  for (uint16_t q = 0; q < 3; ++q) device_->StopQueue(q, [&](virtio::Queue) { ++stopped; });
  EXPECT_TRUE(loop_.RunUntil([&] { return stopped == 3; }));
}

TEST_P(BlockDeviceTest, StopFinishesWhatIsInFlightAndTakesNoMore) {
  Begin();
  file_->hold = true;
  driver_.Chain()
      .ReadableStruct(Header(VIRTIO_BLK_T_OUT, 1))
      .Readable(Pattern(512))
      .Writable(1)
      .Submit();
  driver_.Kick();
  loop_.RunUntilIdle();
  bool stopped = false;
  device_->StopQueue(0, [&](virtio::Queue queue) {
    position_ = queue.position();
    stopped = true;
  });
  driver_.Chain()
      .ReadableStruct(Header(VIRTIO_BLK_T_OUT, 2))
      .Readable(Pattern(512))
      .Writable(1)
      .Submit();
  driver_.Kick();
  loop_.RunUntilIdle();
  EXPECT_FALSE(stopped);
  file_->Release();
  EXPECT_TRUE(loop_.RunUntil([&] { return stopped; }));
  running_ = false;
  EXPECT_EQ(driver_.AllUsed().size(), 1u);
  EXPECT_EQ(Image(1024, 512), std::vector<uint8_t>(512));
  // Started again where it stood, it takes what waits.
  device_->Reset();
  Start();
  EXPECT_EQ(Wait(1).size(), 1u);
  EXPECT_EQ(Image(1024, 512), Pattern(512));
}

TEST_P(BlockDeviceTest, ADeviceThatIsGoneHearsNothing) {
  Make({});
  for (int i = 0; i < 200; ++i) {
    driver_.Chain().ReadableStruct(Header(VIRTIO_BLK_T_IN)).Writable(1).Indirect().Submit();
  }
  // It takes 128 chains and posts what looks for the rest.
  Start();
  EXPECT_EQ(driver_.AllUsed().size(), 128u);
  running_ = false;
  device_.reset();
  loop_.RunUntilIdle();
  EXPECT_TRUE(driver_.AllUsed().empty());
}

TEST_P(BlockDeviceTest, ALongQueueIsTakenInTurns) {
  Begin();
  for (int i = 0; i < 200; ++i) {
    driver_.Chain().ReadableStruct(Header(VIRTIO_BLK_T_IN)).Writable(1).Indirect().Submit();
  }
  driver_.Kick();
  EXPECT_EQ(Wait(200).size(), 200u);
}

TEST_P(BlockDeviceTest, Resize) {
  Begin();
  int changes = 0;
  device_->set_config_changed([&] { ++changes; });
  EXPECT_EQ(Write(kDiskBytes / 512, Pattern(512)), VIRTIO_BLK_S_IOERR);
  ASSERT_EQ(ftruncate(image_.get(), kDiskBytes * 2), 0);
  ASSERT_TRUE(device_->HandleControl(ResizeDisk{.bytes = kDiskBytes * 2 + 100}).has_value());
  EXPECT_EQ(changes, 1);
  EXPECT_EQ(Config().capacity, kDiskBytes * 2 / 512);
  EXPECT_EQ(Write(kDiskBytes / 512, Pattern(512)), VIRTIO_BLK_S_OK);
  EXPECT_EQ(Image(kDiskBytes, 512), Pattern(512));
  EXPECT_FALSE(device_->HandleControl(SetWindowSize{}).has_value());
}

TEST_P(BlockDeviceTest, ConfigIsNotTheDriversToWrite) {
  Make();
  const std::vector<uint8_t> ones(sizeof(virtio_blk_config), 0xff);
  device_->WriteConfig(0, ones);
  EXPECT_EQ(Config().capacity, kDiskBytes / 512);
}

TEST_P(BlockDeviceTest, DirectIoWithBuffersThatAreNotAligned) {
  Make({.memory_alignment = 512}, O_DIRECT);
  Start();
  // More than one piece of the bounce buffer.
  const std::vector<uint8_t> data = Pattern((2 << 20) + 1536);
  const std::span<const uint8_t> all(data);
  auto write = driver_.Chain();
  EXPECT_EQ(StatusOf(Run(write.ReadableStruct(Header(VIRTIO_BLK_T_OUT, 2))
                             .Readable(all.first(700))
                             .Readable(all.subspan(700))
                             .Writable(1))),
            VIRTIO_BLK_S_OK);
  auto read = driver_.Chain();
  Used used = Run(read.ReadableStruct(Header(VIRTIO_BLK_T_IN, 2))
                      .Writable(33)
                      .Writable(static_cast<uint32_t>(data.size()) - 33)
                      .Writable(1));
  EXPECT_EQ(StatusOf(used), VIRTIO_BLK_S_OK);
  used.data.pop_back();
  EXPECT_EQ(used.data, data);
}

TEST_P(BlockDeviceTest, Hostile_BounceBuffersAreBounded) {
  Make({.memory_alignment = 512}, O_DIRECT);
  Start();
  file_->hold = true;
  // One piece of guest memory in 200 requests of 3 MiB each, none of them aligned.
  const memory::GuestAddr buffer = driver_.Allocate((3 << 20) + 16);
  for (int i = 0; i < 200; ++i) {
    driver_.Chain()
        .ReadableStruct(Header(VIRTIO_BLK_T_OUT, 0))
        .Raw(buffer.value() + 8, 3 << 20, 0)
        .Writable(1)
        .Indirect()
        .Submit();
  }
  driver_.Kick();
  loop_.RunUntilIdle();
  EXPECT_EQ(file_->held(), 32u);
  file_->Release();
  const std::vector<Used> done = Wait(200);
  EXPECT_EQ(done.size(), 200u);
  for (const Used& used : done) EXPECT_EQ(StatusOf(used), VIRTIO_BLK_S_OK);
}

}  // namespace
}  // namespace crosvm::devices::block

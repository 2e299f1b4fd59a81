#include "bus/bus.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <functional>
#include <limits>
#include <thread>
#include <vector>

namespace crosvm::bus {
namespace {

// Reads as its tag; remembers what was done to it.
class FakeDevice : public Device {
 public:
  explicit FakeDevice(uint8_t tag) : tag_(tag), name_("fake-" + std::to_string(tag)) {}

  std::string_view name() const override { return name_; }
  void Read(uint64_t offset, std::span<uint8_t> data) override {
    last_offset = offset;
    std::ranges::fill(data, tag_);
    if (on_access) on_access();
  }
  void Write(uint64_t offset, std::span<const uint8_t> data) override {
    last_offset = offset;
    written.assign(data.begin(), data.end());
    if (on_access) on_access();
  }

  uint64_t last_offset = 0;
  std::vector<uint8_t> written;
  std::function<void()> on_access;

 private:
  const uint8_t tag_;
  const std::string name_;
};

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

TEST(Bus, ReadsAndWritesGoToTheDeviceWithTheOffset) {
  Bus bus("MMIO");
  auto device = std::make_shared<FakeDevice>(7);
  ASSERT_TRUE(bus.Insert(device, 0x1000, 0x10).has_value());
  std::array<uint8_t, 4> data{};
  EXPECT_TRUE(bus.Read(0x100c, data));
  EXPECT_EQ(device->last_offset, 0xcu);
  EXPECT_EQ(data, (std::array<uint8_t, 4>{7, 7, 7, 7}));
  const std::array<uint8_t, 2> out = {1, 2};
  EXPECT_TRUE(bus.Write(0x1000, out));
  EXPECT_EQ(device->last_offset, 0u);
  EXPECT_EQ(device->written, (std::vector<uint8_t>{1, 2}));
}

TEST(Bus, AnAccessOutsideOrAcrossTheEndReadsAllOnesAndWritesNowhere) {
  Bus bus("MMIO");
  auto low = std::make_shared<FakeDevice>(1);
  auto high = std::make_shared<FakeDevice>(2);
  ASSERT_TRUE(bus.Insert(low, 0x1000, 0x10).has_value());
  ASSERT_TRUE(bus.Insert(high, 0x1010, 0x10).has_value());
  for (const uint64_t address : {uint64_t{0}, uint64_t{0xffe}, uint64_t{0x100e}, uint64_t{0x101e},
                                 uint64_t{0x1020}, kMax, kMax - 3}) {
    std::array<uint8_t, 4> data{};
    EXPECT_FALSE(bus.Read(address, data)) << address;
    EXPECT_EQ(data, (std::array<uint8_t, 4>{0xff, 0xff, 0xff, 0xff})) << address;
    EXPECT_FALSE(bus.Write(address, data)) << address;
  }
  EXPECT_TRUE(low->written.empty());
  EXPECT_TRUE(high->written.empty());
}

TEST(Bus, OverlapsAreRefusedNamingBoth) {
  Bus bus("I/O ports");
  ASSERT_TRUE(bus.Insert(std::make_shared<FakeDevice>(1), 0x100, 0x10).has_value());
  const std::pair<uint64_t, uint64_t> overlaps[] = {{0x100, 0x10}, {0x100, 1}, {0x10f, 1},
                                                    {0x10f, 8},    {0xf9, 8},  {0x80, 0x200},
                                                    {0x104, 4},    {0, kMax}};
  for (const auto& [base, length] : overlaps) {
    const Status status = bus.Insert(std::make_shared<FakeDevice>(2), base, length);
    ASSERT_FALSE(status.has_value()) << base << "+" << length;
    EXPECT_EQ(status.error().kind(), ErrorKind::kAlreadyExists);
    EXPECT_NE(status.error().ToString().find("fake-1"), std::string::npos);
    EXPECT_NE(status.error().ToString().find("fake-2"), std::string::npos);
    EXPECT_NE(status.error().ToString().find("I/O ports"), std::string::npos);
  }
  EXPECT_TRUE(bus.Insert(std::make_shared<FakeDevice>(2), 0xf8, 8).has_value());
  EXPECT_TRUE(bus.Insert(std::make_shared<FakeDevice>(3), 0x110, 8).has_value());
}

TEST(Bus, EmptyAndWrappingRangesAreRefused) {
  Bus bus("MMIO");
  EXPECT_FALSE(bus.Insert(std::make_shared<FakeDevice>(1), 0x100, 0).has_value());
  EXPECT_FALSE(bus.Insert(std::make_shared<FakeDevice>(1), kMax, 2).has_value());
  auto device = std::make_shared<FakeDevice>(9);
  ASSERT_TRUE(bus.Insert(device, kMax - 7, 8).has_value());
  std::array<uint8_t, 1> data{};
  EXPECT_TRUE(bus.Read(kMax, data));
  EXPECT_EQ(device->last_offset, 7u);
}

TEST(Bus, RemoveFreesTheRange) {
  Bus bus("MMIO");
  auto device = std::make_shared<FakeDevice>(1);
  ASSERT_TRUE(bus.Insert(device, 0x100, 0x10).has_value());
  EXPECT_FALSE(bus.Remove(0x104).has_value());
  EXPECT_TRUE(bus.Remove(0x100).has_value());
  EXPECT_EQ(device.use_count(), 1);
  EXPECT_FALSE(bus.Remove(0x100).has_value());
  std::array<uint8_t, 1> data{};
  EXPECT_FALSE(bus.Read(0x100, data));
  EXPECT_TRUE(bus.Insert(device, 0x108, 0x10).has_value());
}

TEST(Bus, ADeviceMayRemoveItselfInsideItsOwnAccess) {
  Bus bus("MMIO");
  auto device = std::make_shared<FakeDevice>(1);
  device->on_access = [&] {
    ASSERT_TRUE(bus.Remove(0x100).has_value());
    ASSERT_TRUE(bus.Insert(std::make_shared<FakeDevice>(2), 0x200, 0x10).has_value());
  };
  ASSERT_TRUE(bus.Insert(device, 0x100, 0x10).has_value());
  std::weak_ptr<FakeDevice> weak = device;
  device.reset();
  const std::array<uint8_t, 1> out = {1};
  EXPECT_TRUE(bus.Write(0x100, out));
  EXPECT_TRUE(weak.expired());
  std::array<uint8_t, 1> data{};
  EXPECT_FALSE(bus.Read(0x100, data));
  EXPECT_TRUE(bus.Read(0x200, data));
}

TEST(Bus, Hostile_AnEmptyAccessIsHarmless) {
  Bus bus("MMIO");
  ASSERT_TRUE(bus.Insert(std::make_shared<FakeDevice>(1), 0x100, 0x10).has_value());
  EXPECT_FALSE(bus.Read(0x100, {}));
  EXPECT_FALSE(bus.Write(0x100, {}));
}

// Stateless, so that the thread sanitizer only judges the bus.
class Constant : public Device {
 public:
  std::string_view name() const override { return "constant"; }
  void Read(uint64_t, std::span<uint8_t> data) override { std::ranges::fill(data, uint8_t{5}); }
  void Write(uint64_t, std::span<const uint8_t>) override {}
};

TEST(Bus, RangesMoveWhileOthersAccess) {
  Bus bus("MMIO");
  ASSERT_TRUE(bus.Insert(std::make_shared<Constant>(), 0x10000, 0x100).has_value());
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> wrong = 0;
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      while (!stop) {
        std::array<uint8_t, 2> data{};
        // The moving range answers, or nothing does; the fixed one always answers.
        const bool found = bus.Read(0x1000, data);
        if (data[0] != (found ? 5 : 0xff) || data[1] != data[0]) ++wrong;
        bus.Write(0x1040, data);
        if (!bus.Read(0x10080, data) || data[0] != 5) ++wrong;
      }
    });
  }
  for (int i = 0; i < 2000; ++i) {
    ASSERT_TRUE(bus.Insert(std::make_shared<Constant>(), 0x1000, 0x80).has_value());
    ASSERT_TRUE(bus.Remove(0x1000).has_value());
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0u);
}

}  // namespace
}  // namespace crosvm::bus

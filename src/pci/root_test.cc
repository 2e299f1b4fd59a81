#include "pci/root.h"

#include <gtest/gtest.h>

#include <vector>

#include "pci/config_access.h"

namespace crosvm::pci {
namespace {

class FakeBar final : public bus::Device {
 public:
  std::string_view name() const override { return "fake BAR"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override {
    std::fill(data.begin(), data.end(), static_cast<uint8_t>(offset));
  }
  void Write(uint64_t /*offset*/, std::span<const uint8_t> /*data*/) override { ++writes; }
  int writes = 0;
};

class FakeFunction final : public Function {
 public:
  explicit FakeFunction(const std::string& name) : Function(name, {.vendor = 0x1234, .device = 1}) {
    EXPECT_TRUE(config().AddBar(0, {.kind = BarKind::kMemory32, .size = 0x1000}).has_value());
    EXPECT_TRUE(config().AddBar(1, {.kind = BarKind::kIo, .size = 0x20}).has_value());
    EXPECT_TRUE(config().AddBar(2, {.kind = BarKind::kMemory64, .size = 0x1'0000}).has_value());
  }
  std::shared_ptr<bus::Device> BarDevice(uint8_t bar) override { return bar == 2 ? nullptr : bar_; }
  void OnBarMoved(uint8_t bar, std::optional<uint64_t> base) override {
    moves[bar].push_back(base);
  }

  std::array<std::vector<std::optional<uint64_t>>, 6> moves;

 private:
  std::shared_ptr<FakeBar> bar_ = std::make_shared<FakeBar>();
};

constexpr uint64_t kLow = 0xd000'0000;
constexpr uint64_t kHigh = 0x1'0000'0000;

class RootTest : public ::testing::Test {
 protected:
  static Address At(uint8_t device, uint8_t function = 0) {
    return *Address::Make(0, device, function);
  }
  std::shared_ptr<FakeFunction> AddFunction(uint8_t device, uint32_t base) {
    auto function = std::make_shared<FakeFunction>("fake" + std::to_string(device));
    EXPECT_TRUE(function->config().SetBarAddress(0, base).has_value());
    EXPECT_TRUE(function->config().SetBarAddress(1, 0xc000U + 0x20U * device).has_value());
    EXPECT_TRUE(function->config().SetBarAddress(2, kHigh + 0x1'0000U * device).has_value());
    EXPECT_TRUE(root_->Add(At(device), function).has_value());
    return function;
  }
  void Write32(Address address, uint32_t offset, uint32_t value) {
    std::array<uint8_t, 4> data;
    for (size_t i = 0; i < 4; ++i) data[i] = static_cast<uint8_t>(value >> (8 * i));
    root_->WriteConfig(address, offset, data);
  }
  void Enable(Address address) { Write32(address, PCI_COMMAND, 3); }
  bool Mapped(bus::Bus& bus, uint64_t at) {
    std::array<uint8_t, 1> data{};
    return bus.Read(at, data);
  }

  bus::Bus mmio_{"MMIO"};
  bus::Bus io_{"I/O ports"};
  std::shared_ptr<Root> root_ =
      std::make_shared<Root>(mmio_, io_,
                             Windows{.memory = {{kLow, 0x2000'0000}, {kHigh, uint64_t{1} << 38}},
                                     .io = {{0xc000, 0x1000}}});
};

TEST_F(RootTest, BarsAppearWithTheCommandRegisterAndGoAgain) {
  const auto function = AddFunction(1, 0xd000'0000);
  EXPECT_FALSE(Mapped(mmio_, 0xd000'0000));
  Enable(At(1));
  EXPECT_TRUE(Mapped(mmio_, 0xd000'0fff));
  EXPECT_TRUE(Mapped(io_, 0xc020));
  EXPECT_TRUE(Mapped(mmio_, kHigh + 0x1'0000));
  EXPECT_EQ(function->moves[0].back(), 0xd000'0000U);
  Write32(At(1), PCI_COMMAND, 0);
  EXPECT_FALSE(Mapped(mmio_, 0xd000'0000));
  EXPECT_FALSE(Mapped(io_, 0xc020));
  EXPECT_EQ(function->moves[0].back(), std::nullopt);
}

TEST_F(RootTest, MovedBarIsHonoured) {
  const auto function = AddFunction(1, 0xd000'0000);
  Enable(At(1));
  Write32(At(1), PCI_BASE_ADDRESS_0, 0xd123'4000);
  EXPECT_FALSE(Mapped(mmio_, 0xd000'0000));
  EXPECT_TRUE(Mapped(mmio_, 0xd123'4000));
  EXPECT_EQ(function->moves[0],
            (std::vector<std::optional<uint64_t>>{0xd000'0000, std::nullopt, 0xd123'4000}));
}

TEST_F(RootTest, BarWithoutDeviceReadsAllOnes) {
  AddFunction(1, 0xd000'0000);
  Enable(At(1));
  std::array<uint8_t, 2> data{};
  EXPECT_TRUE(mmio_.Read(kHigh + 0x1'0000, data));
  EXPECT_EQ(data, (std::array<uint8_t, 2>{0xff, 0xff}));
}

TEST_F(RootTest, Hostile_BarOverRamOrOutsideTheWindowsIsNotDecoded) {
  const auto function = AddFunction(1, 0xd000'0000);
  Enable(At(1));
  for (const uint32_t base :
       {0U, 0x1000U, 0xcfff'f000U, 0xf000'0000U, 0xfee0'0000U, 0xffff'f000U}) {
    Write32(At(1), PCI_BASE_ADDRESS_0, base);
    EXPECT_FALSE(Mapped(mmio_, base)) << base;
    EXPECT_EQ(function->moves[0].back(), std::nullopt);
  }
  Write32(At(1), PCI_BASE_ADDRESS_2 + 4, 0xffff'ffff);
  Write32(At(1), PCI_BASE_ADDRESS_2, 0xffff'ffff);
  EXPECT_EQ(function->moves[2].back(), std::nullopt);
}

TEST_F(RootTest, Hostile_BarOverAnotherWaitsUntilThatLeaves) {
  const auto first = AddFunction(1, 0xd000'0000);
  const auto second = AddFunction(2, 0xd000'1000);
  Enable(At(1));
  Enable(At(2));
  Write32(At(2), PCI_BASE_ADDRESS_0, 0xd000'0000);
  EXPECT_EQ(second->moves[0].back(), std::nullopt);
  EXPECT_EQ(first->moves[0].back(), 0xd000'0000U);
  Write32(At(1), PCI_BASE_ADDRESS_0, 0xd000'5000);
  EXPECT_EQ(second->moves[0].back(), 0xd000'0000U);
  EXPECT_EQ(first->moves[0].back(), 0xd000'5000U);
}

TEST_F(RootTest, RemoveTakesTheRangesAway) {
  AddFunction(1, 0xd000'0000);
  Enable(At(1));
  EXPECT_TRUE(root_->Remove(At(1)).has_value());
  EXPECT_FALSE(root_->Remove(At(1)).has_value());
  EXPECT_FALSE(Mapped(mmio_, 0xd000'0000));
  std::array<uint8_t, 4> data{};
  root_->ReadConfig(At(1), 0, data);
  EXPECT_EQ(data, (std::array<uint8_t, 4>{0xff, 0xff, 0xff, 0xff}));
}

TEST_F(RootTest, AddressesAreChecked) {
  AddFunction(1, 0xd000'0000);
  EXPECT_FALSE(root_->Add(At(1), MakeHostBridge()).has_value());
  EXPECT_FALSE(root_->Add(*Address::Make(1, 0, 0), MakeHostBridge()).has_value());
  EXPECT_FALSE(Address::Make(0, 32, 0).has_value());
  EXPECT_FALSE(Address::Make(0, 0, 8).has_value());
  EXPECT_EQ(Address::Make(0, 31, 7)->ToString(), "00:1f.7");
}

TEST_F(RootTest, MultiFunctionBitComesWithASecondFunction) {
  AddFunction(3, 0xd000'0000);
  std::array<uint8_t, 1> header{};
  root_->ReadConfig(At(3), PCI_HEADER_TYPE, header);
  EXPECT_EQ(header[0], 0);
  ASSERT_TRUE(root_->Add(At(3, 1), MakeHostBridge()).has_value());
  root_->ReadConfig(At(3), PCI_HEADER_TYPE, header);
  EXPECT_EQ(header[0], 0x80);
}

TEST_F(RootTest, AssignBarsUsesTheRightAllocator) {
  auto low = resources::AddressAllocator::Create("low", {kLow, 0x10'0000}, 0x1000).value();
  auto high = resources::AddressAllocator::Create("high", {kHigh, 0x10'0000}, 0x1000).value();
  auto io = resources::AddressAllocator::Create("io", {0xc000, 0x1000}, 4).value();
  FakeFunction function("fake");
  ASSERT_TRUE(AssignBars(function, &low, &high, &io, "00:01.0").has_value());
  EXPECT_EQ(function.config().BarAddress(0), kLow);
  EXPECT_EQ(function.config().BarAddress(1), 0xc000U);
  EXPECT_EQ(function.config().BarAddress(2), kHigh);
  FakeFunction other("other");
  EXPECT_FALSE(AssignBars(other, &low, &high, nullptr, "00:02.0").has_value());
  ReleaseBars("00:02.0", low);
  EXPECT_EQ(low.allocations().size(), 1U);
}

class AccessTest : public RootTest {
 protected:
  void SetUp() override { ASSERT_TRUE(root_->Add(At(0), MakeHostBridge()).has_value()); }
  uint32_t In(uint64_t offset, size_t size) {
    std::array<uint8_t, 4> data{};
    ports_.Read(offset, std::span(data).first(size));
    return data[0] | (uint32_t{data[1]} << 8) | (uint32_t{data[2]} << 16) |
           (uint32_t{data[3]} << 24);
  }
  void Out(uint64_t offset, uint32_t value, size_t size) {
    std::array<uint8_t, 4> data;
    for (size_t i = 0; i < 4; ++i) data[i] = static_cast<uint8_t>(value >> (8 * i));
    ports_.Write(offset, std::span(data).first(size));
  }
  Mechanism1 ports_{root_};
  Ecam ecam_{root_};
};

TEST_F(AccessTest, Mechanism1FindsTheBridge) {
  Out(0, 0x8000'0000, 4);
  EXPECT_EQ(In(0, 4), 0x8000'0000U);
  EXPECT_EQ(In(4, 4), 0x29c0'8086U);
  EXPECT_EQ(In(6, 2), 0x29c0U);
  EXPECT_EQ(In(5, 1), 0x80U);
  Out(0, 0x8000'0800, 4);
  EXPECT_EQ(In(4, 4), 0xffff'ffffU);
  Out(0, 0x0000'0000, 4);
  EXPECT_EQ(In(4, 4), 0xffff'ffffU);
}

TEST_F(AccessTest, ConfigAddressTakesBytesAndWords) {
  Out(3, 0x80, 1);
  Out(0, 0x0008, 2);
  EXPECT_EQ(In(0, 4), 0x8000'0008U);
  EXPECT_EQ(In(3, 1), 0x80U);
  EXPECT_EQ(In(7, 1), 0x06U);  // base class of the bridge
}

TEST_F(AccessTest, EcamReadsTheSameRegistersAndZeroBeyond) {
  std::array<uint8_t, 4> data{};
  ecam_.Read(0, data);
  EXPECT_EQ(data, (std::array<uint8_t, 4>{0x86, 0x80, 0xc0, 0x29}));
  ecam_.Read(0x100, data);
  EXPECT_EQ(data, (std::array<uint8_t, 4>{}));
  ecam_.Read(0x8000, data);
  EXPECT_EQ(data, (std::array<uint8_t, 4>{0xff, 0xff, 0xff, 0xff}));
}

TEST_F(AccessTest, Hostile_AnyWidthAnywhere) {
  std::array<uint8_t, 8> data{};
  for (uint64_t offset = 0; offset < 8; ++offset) {
    for (size_t size = 1; size <= 8 - offset; ++size) {
      ports_.Write(offset, std::span(data).first(size));
      ports_.Read(offset, std::span(data).first(size));
    }
  }
  for (const uint64_t offset : {0xffULL, 0xffcULL, 0xfffULL, 0xf'fffcULL, 0x10'0000ULL}) {
    for (size_t size = 1; size <= 8; ++size) {
      ecam_.Write(offset, std::span(data).first(size));
      ecam_.Read(offset, std::span(data).first(size));
    }
  }
}

}  // namespace
}  // namespace crosvm::pci

#include "platform/reset_ports.h"

#include <gtest/gtest.h>

#include "platform/testing_fakes.h"

namespace crosvm::platform {
namespace {

using namespace testing;

TEST(I8042, OnlyTheResetPulseResets) {
  FakeEvents events;
  I8042Port command(I8042Port::Port::kCommand, events);
  I8042Port data(I8042Port::Port::kData, events);
  Out(data, 0, 0xfe);
  Out(command, 0, 0xff);
  Out(command, 0, 0xd1);
  EXPECT_EQ(events.resets, 0);
  Out(command, 0, 0xfe);
  EXPECT_EQ(events.resets, 1);
}

TEST(I8042, AFlushNeverEndsAndACommandNeverWaits) {
  FakeEvents events;
  I8042Port command(I8042Port::Port::kCommand, events);
  I8042Port data(I8042Port::Port::kData, events);
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(In(command, 0) & 0x03, 0x01);
    EXPECT_EQ(In(data, 0), 0);
  }
  Flood(command, I8042Port::kLength);
  Flood(data, I8042Port::kLength);
}

// Remembers the last access.
struct Recorder : bus::Device {
  std::string_view name() const override { return "recorder"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override {
    last = {offset, data.size()};
    std::ranges::fill(data, uint8_t{7});
  }
  void Write(uint64_t offset, std::span<const uint8_t> data) override {
    last = {offset, data.size()};
  }
  std::pair<uint64_t, size_t> last{99, 99};
};

TEST(ResetRegister, OnlyItsOwnByteResetsAndTheRestIsPassedOn) {
  FakeEvents events;
  auto inner = std::make_shared<Recorder>();
  ResetRegister reset(inner, events);
  Out(reset, 1, 0x02);
  EXPECT_EQ(events.resets, 0);
  Out(reset, 1, 0x06);
  EXPECT_EQ(events.resets, 1);
  EXPECT_EQ(inner->last.first, 99u);
  EXPECT_EQ(In(reset, 1), 0);
  const uint8_t wide[4] = {6, 6, 6, 6};
  reset.Write(0, wide);
  EXPECT_EQ(inner->last, (std::pair<uint64_t, size_t>{0, 4}));
  EXPECT_EQ(In(reset, 5), 7);
  EXPECT_EQ(events.resets, 1);
}

TEST(ResetRegister, WorksAlone) {
  FakeEvents events;
  ResetRegister reset(nullptr, events);
  EXPECT_EQ(In(reset, 4), 0xff);
  Out(reset, 4, 1);
  Flood(reset, ResetRegister::kLength);
}

}  // namespace
}  // namespace crosvm::platform

// Fakes for this folder's tests.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "bus/device.h"
#include "bus/interrupt_line.h"
#include "chardev/char_sink.h"
#include "chardev/char_source.h"
#include "platform/vm_events.h"

namespace crosvm::platform::testing {

struct FakeLine : bus::InterruptLine {
  void Raise() override {
    ++raises;
    up = true;
  }
  void Lower() override { up = false; }
  int raises = 0;
  bool up = false;
};

struct FakeEvents : VmEvents {
  void OnReset() override { ++resets; }
  void OnPowerOff() override { ++power_offs; }
  void OnSuspendRequest() override { ++suspends; }
  void OnPanic(PanicKind kind) override { panics.push_back(kind); }
  int resets = 0;
  int power_offs = 0;
  int suspends = 0;
  std::vector<PanicKind> panics;
};

// Takes `room` bytes.
struct FakeSink : chardev::CharSink {
  size_t Write(std::span<const uint8_t> data) override {
    const size_t take = std::min(room, data.size());
    room -= take;
    text.append(data.begin(), data.begin() + static_cast<ptrdiff_t>(take));
    return take;
  }
  void OnRoom(std::function<void()> callback) override { on_room = std::move(callback); }
  void Finish(std::chrono::milliseconds) override {}
  size_t room = SIZE_MAX;
  std::string text;
  std::function<void()> on_room;
};

// Offers `text` when told to.
struct FakeSource : chardev::CharSource {
  void Start(Consume start_consume) override { consume = std::move(start_consume); }
  void Resume() override { ++resumes; }
  void Pump() {
    const std::vector<uint8_t> bytes(text.begin(), text.end());
    text.erase(0, consume(bytes));
  }
  Consume consume;
  std::string text;
  int resumes = 0;
};

inline uint8_t In(bus::Device& device, uint64_t offset) {
  uint8_t byte = 0;
  device.Read(offset, {&byte, 1});
  return byte;
}
inline void Out(bus::Device& device, uint64_t offset, int value) {
  const auto byte = static_cast<uint8_t>(value);
  device.Write(offset, {&byte, 1});
}

// Every offset around the device's range with every size, reads and writes.
inline void Flood(bus::Device& device, uint64_t length) {
  std::vector<uint8_t> data(8);
  for (uint64_t round = 0; round < 4; ++round) {
    for (uint64_t offset = 0; offset < length + 4; ++offset) {
      for (size_t size = 0; size <= 8; ++size) {
        for (size_t i = 0; i < 8; ++i)
          data[i] = static_cast<uint8_t>(offset * 37 + size * 11 + i * 5 + round);
        device.Write(offset, std::span(data).first(size));
        device.Read(offset, std::span(data).first(size));
      }
    }
  }
  device.Read(UINT64_MAX - 8, data);
  device.Write(UINT64_MAX - 8, data);
}

}  // namespace crosvm::platform::testing

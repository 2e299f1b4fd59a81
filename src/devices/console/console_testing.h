// A sink and a source for tests of the console: the sink has as much room as the test gives it, the
// source offers what the test says.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "chardev/char_sink.h"
#include "chardev/char_source.h"

namespace crosvm::devices::console::testing {

class FakeSink : public chardev::CharSink {
 public:
  // The test's end; outlives the sink.
  struct State {
    std::string text;
    size_t room = SIZE_MAX;
    std::function<void()> on_room;
    void MakeRoom(size_t bytes) {
      room = bytes;
      if (on_room) on_room();
    }
  };
  explicit FakeSink(State& state) : state_(state) {}
  ~FakeSink() override { state_.on_room = nullptr; }
  size_t Write(std::span<const uint8_t> data) override {
    const size_t taken = std::min(data.size(), state_.room);
    state_.text.append(data.begin(), data.begin() + static_cast<ptrdiff_t>(taken));
    if (state_.room != SIZE_MAX) state_.room -= taken;
    return taken;
  }
  void OnRoom(std::function<void()> callback) override { state_.on_room = std::move(callback); }
  void Finish(std::chrono::milliseconds) override {}

 private:
  State& state_;
};

class FakeSource : public chardev::CharSource {
 public:
  struct State {
    std::string pending;
    Consume consume;
    int resumes = 0;
    void Type(std::string_view text) {
      pending += text;
      Offer();
    }
    void Offer() {
      if (!consume || pending.empty()) return;
      // SAFETY: characters as bytes.
      const size_t taken =
          consume({reinterpret_cast<const uint8_t*>(pending.data()), pending.size()});
      pending.erase(0, taken);
    }
  };
  explicit FakeSource(State& state) : state_(state) {}
  ~FakeSource() override { state_.consume = nullptr; }
  void Start(Consume consume) override { state_.consume = std::move(consume); }
  void Resume() override {
    ++state_.resumes;
    state_.Offer();
  }

 private:
  State& state_;
};

}  // namespace crosvm::devices::console::testing

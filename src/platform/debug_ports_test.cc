#include "platform/debug_ports.h"

#include <gtest/gtest.h>

#include "platform/testing_fakes.h"

namespace crosvm::platform {
namespace {

using namespace testing;

TEST(DebugConsole, ReadsItsMarkAndWritesToTheSink) {
  auto owner = std::make_unique<FakeSink>();
  FakeSink& sink = *owner;
  DebugConsole console(std::move(owner));
  EXPECT_EQ(In(console, 0), 0xe9);
  const uint8_t text[] = {'o', 'k'};
  console.Write(0, std::span(text).first(1));
  console.Write(0, std::span(text).last(1));
  EXPECT_EQ(sink.text, "ok");
  sink.room = 0;
  Out(console, 0, 'x');
  EXPECT_EQ(sink.text, "ok");
  Flood(console, DebugConsole::kLength);
}

TEST(PvPanic, ReportsEvents) {
  FakeEvents events;
  PvPanic device(events);
  EXPECT_EQ(In(device, 0), 3);
  Out(device, 0, 1);
  Out(device, 0, 2);
  Out(device, 0, 4);
  Out(device, 0, 0);
  EXPECT_EQ(events.panics, (std::vector{PanicKind::kPanicked, PanicKind::kCrashLoaded}));
  Flood(device, PvPanic::kLength);
}

}  // namespace
}  // namespace crosvm::platform

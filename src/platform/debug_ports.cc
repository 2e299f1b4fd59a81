#include "platform/debug_ports.h"

namespace crosvm::platform {
namespace {
constexpr uint8_t kDebugConsolePresent = 0xe9;
constexpr uint8_t kPanicked = 0x01;
constexpr uint8_t kCrashLoaded = 0x02;
}  // namespace

uint8_t DebugConsole::ReadByte(uint64_t offset) {
  return offset == 0 ? kDebugConsolePresent : 0xff;
}

void DebugConsole::WriteByte(uint64_t offset, uint8_t value) {
  const uint8_t one[] = {value};
  if (offset == 0) sink_->Write(one);
}

uint8_t PvPanic::ReadByte(uint64_t offset) {
  return offset == 0 ? kPanicked | kCrashLoaded : 0xff;
}

void PvPanic::WriteByte(uint64_t offset, uint8_t value) {
  if (offset != 0) return;
  if ((value & kPanicked) != 0) {
    events_.OnPanic(PanicKind::kPanicked);
  } else if ((value & kCrashLoaded) != 0) {
    events_.OnPanic(PanicKind::kCrashLoaded);
  }
}

}  // namespace crosvm::platform

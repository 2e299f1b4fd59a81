#include "platform/reset_ports.h"

#include <algorithm>

namespace crosvm::platform {
namespace {

constexpr uint8_t kOutputBufferFull = 0x01;
constexpr uint8_t kPulseReset = 0xfe;

constexpr uint64_t kResetOffset = 1;
constexpr uint8_t kResetCpu = 0x04;  // bit 1 alone only chooses the kind of reset

}  // namespace

uint8_t I8042Port::ReadByte(uint64_t offset) {
  if (offset != 0) return 0xff;
  return port_ == Port::kCommand ? kOutputBufferFull : 0;
}

void I8042Port::WriteByte(uint64_t offset, uint8_t value) {
  if (offset == 0 && port_ == Port::kCommand && value == kPulseReset) events_.OnReset();
}

void ResetRegister::Read(uint64_t offset, std::span<uint8_t> data) {
  if (offset == kResetOffset && data.size() == 1) {
    data[0] = 0;
  } else if (config_ != nullptr) {
    config_->Read(offset, data);
  } else {
    std::ranges::fill(data, uint8_t{0xff});
  }
}

void ResetRegister::Write(uint64_t offset, std::span<const uint8_t> data) {
  if (offset == kResetOffset && data.size() == 1) {
    if ((data[0] & kResetCpu) != 0) events_.OnReset();
  } else if (config_ != nullptr) {
    config_->Write(offset, data);
  }
}

}  // namespace crosvm::platform

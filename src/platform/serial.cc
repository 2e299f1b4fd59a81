#include "platform/serial.h"

#include <optional>
#include <span>
#include <utility>

namespace crosvm::platform {

Serial::Serial(std::string name, std::shared_ptr<bus::InterruptLine> line,
               chardev::CharStreams streams)
    : name_(std::move(name)), line_(std::move(line)), streams_(std::move(streams)) {
  streams_.sink->OnRoom([this] {
    const MutexLock lock(mutex_);
    Send();
    UpdateLine();
  });
}

Serial::~Serial() = default;

void Serial::Start() {
  if (streams_.source == nullptr) return;
  streams_.source->Start([this](std::span<const uint8_t> data) {
    const MutexLock lock(mutex_);
    const size_t taken = registers_.Receive(data);
    input_waits_ = taken < data.size();
    UpdateLine();
    return taken;
  });
}

void Serial::Finish(std::chrono::milliseconds timeout) {
  {
    const MutexLock lock(mutex_);
    Send();
  }
  streams_.sink->Finish(timeout);
}

uint8_t Serial::ReadByte(uint64_t offset) {
  const MutexLock lock(mutex_);
  const uint8_t value = registers_.Read(offset);
  UpdateLine();
  WantInput();
  return value;
}

void Serial::WriteByte(uint64_t offset, uint8_t value) {
  const MutexLock lock(mutex_);
  registers_.Write(offset, value);
  Send();
  UpdateLine();
  WantInput();
}

void Serial::Send() {
  while (const std::optional<uint8_t> byte = registers_.to_send()) {
    const uint8_t one[] = {*byte};
    if (streams_.sink->Write(one) == 0) return;  // OnRoom() goes on
    registers_.Sent();
  }
}

void Serial::UpdateLine() {
  const bool up = registers_.interrupt();
  if (up == std::exchange(line_up_, up)) return;
  if (up) {
    line_->Raise();
  } else {
    line_->Lower();
  }
}

void Serial::WantInput() {
  if (!input_waits_ || registers_.room() == 0) return;
  input_waits_ = false;
  streams_.source->Resume();
}

}  // namespace crosvm::platform

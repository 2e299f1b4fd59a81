#include "devices/console/console_port.h"

#include <algorithm>
#include <array>

namespace crosvm::devices::console {

Port::Port(std::string name, std::unique_ptr<chardev::CharSink> sink,
           std::unique_ptr<chardev::CharSource> source)
    : name_(std::move(name)), sink_(std::move(sink)), source_(std::move(source)) {
  sink_->OnRoom([this] { Transmit(); });
  if (source_) source_->Start([this](std::span<const uint8_t> data) { return Consume(data); });
}

Port::~Port() {
  if (transmit_) StopTransmit();
}

void Port::StartReceive(virtio::Queue queue) {
  receive_ = std::move(queue);
  OnReceiveKick();
}

virtio::Queue Port::StopReceive() {
  virtio::Queue queue = *std::exchange(receive_, std::nullopt);
  queue.Flush();
  return queue;
}

void Port::StartTransmit(virtio::Queue queue) {
  transmit_ = std::move(queue);
  Transmit();
}

virtio::Queue Port::StopTransmit() {
  if (writing_) {
    transmit_->Complete(*std::exchange(writing_, std::nullopt), 0);
    written_ = 0;
  }
  virtio::Queue queue = *std::exchange(transmit_, std::nullopt);
  queue.Flush();
  return queue;
}

void Port::OnReceiveKick() {
  if (receive_) receive_->kick().Drain();
  if (source_) source_->Resume();
}

void Port::OnTransmitKick() {
  transmit_->kick().Drain();
  Transmit();
}

size_t Port::Consume(std::span<const uint8_t> data) {
  if (!receive_) return 0;
  size_t taken = 0;
  while (taken < data.size()) {
    std::optional<virtio::Chain> chain = receive_->Pop();
    if (!chain) break;
    virtio::SliceWriter writer(chain->writable());
    const size_t part = std::min<uint64_t>(writer.remaining(), data.size() - taken);
    const bool fits = writer.Write(data.subspan(taken, part));
    receive_->Complete(std::move(*chain), fits ? static_cast<uint32_t>(part) : 0);
    if (fits) taken += part;
  }
  receive_->Flush();
  return taken;
}

void Port::Transmit() {
  if (!transmit_) return;
  while (true) {
    if (!writing_) {
      writing_ = transmit_->Pop();
      written_ = 0;
      if (!writing_) break;
    }
    if (!WriteOut(*writing_)) break;
    transmit_->Complete(*std::exchange(writing_, std::nullopt), 0);
  }
  transmit_->Flush();
}

bool Port::WriteOut(const virtio::Chain& chain) {
  virtio::SliceReader reader(chain.readable());
  if (!reader.Skip(written_)) return true;
  std::array<uint8_t, 4096> buffer;
  while (reader.remaining() > 0) {
    const size_t part = std::min<uint64_t>(reader.remaining(), buffer.size());
    if (!reader.Read({buffer.data(), part})) return true;
    const size_t taken = sink_->Write({buffer.data(), part});
    written_ += taken;
    if (taken < part) return false;
  }
  return true;
}

}  // namespace crosvm::devices::console

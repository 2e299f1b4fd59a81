#include "devices/console/console_port.h"

#include <algorithm>
#include <array>

namespace crosvm::devices::console {
namespace {

// The driver chooses how many buffers there are and how large; what one turn of the loop takes is
// bounded, so that other ports and the control channel get theirs.
constexpr int kChainsPerTurn = 256;
constexpr uint64_t kBytesPerTurn = 1 << 20;

}  // namespace

Port::Port(event::EventLoop& loop, std::string name, std::unique_ptr<chardev::CharSink> sink,
           std::unique_ptr<chardev::CharSource> source)
    : loop_(loop), name_(std::move(name)), sink_(std::move(sink)), source_(std::move(source)) {
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
  receive_again_.Reset();
  virtio::Queue queue = *std::exchange(receive_, std::nullopt);
  queue.Flush();
  return queue;
}

void Port::StartTransmit(virtio::Queue queue) {
  transmit_ = std::move(queue);
  Transmit();
}

virtio::Queue Port::StopTransmit() {
  transmit_again_.Reset();
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
  int turn = 0;
  for (; taken < data.size() && turn < kChainsPerTurn; ++turn) {
    std::optional<virtio::Chain> chain = receive_->Pop();
    if (!chain) break;
    virtio::SliceWriter writer(chain->writable());
    const size_t part = std::min<uint64_t>(writer.remaining(), data.size() - taken);
    const bool fits = writer.Write(data.subspan(taken, part));
    receive_->Complete(std::move(*chain), fits ? static_cast<uint32_t>(part) : 0);
    if (fits) taken += part;
  }
  receive_->Flush();
  if (turn == kChainsPerTurn && taken < data.size()) {
    receive_again_ = loop_.AddTimer(event::Clock::duration::zero(), [this] { source_->Resume(); });
  }
  return taken;
}

void Port::Transmit() {
  if (!transmit_) return;
  uint64_t budget = kBytesPerTurn;
  Progress progress = Progress::kTurnOver;
  for (int turn = 0; turn < kChainsPerTurn; ++turn) {
    if (!writing_) {
      writing_ = transmit_->Pop();
      written_ = 0;
      if (!writing_) {
        progress = Progress::kDone;
        break;
      }
    }
    progress = WriteOut(*writing_, budget);
    if (progress != Progress::kDone) break;
    transmit_->Complete(*std::exchange(writing_, std::nullopt), 0);
    progress = Progress::kTurnOver;
  }
  transmit_->Flush();
  if (progress == Progress::kTurnOver) {
    transmit_again_ = loop_.AddTimer(event::Clock::duration::zero(), [this] { Transmit(); });
  }
}

Port::Progress Port::WriteOut(const virtio::Chain& chain, uint64_t& budget) {
  virtio::SliceReader reader(chain.readable());
  if (!reader.Skip(written_)) return Progress::kDone;
  std::array<uint8_t, 4096> buffer;
  while (reader.remaining() > 0) {
    if (budget == 0) return Progress::kTurnOver;
    const size_t part = std::min({reader.remaining(), uint64_t{buffer.size()}, budget});
    if (!reader.Read({buffer.data(), part})) return Progress::kDone;
    const size_t taken = sink_->Write({buffer.data(), part});
    written_ += taken;
    budget -= taken;
    if (taken < part) return Progress::kSinkFull;
  }
  return Progress::kDone;
}

}  // namespace crosvm::devices::console

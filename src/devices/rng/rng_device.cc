#include "devices/rng/rng_device.h"

#include <sys/random.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "sys/fd.h"
#include "virtio/types.h"

namespace crosvm::devices::rng {
namespace {

constexpr uint16_t kQueueSize = 256;
// The driver chooses the buffers, so both the bytes for one request and those for one turn of the
// loop are bounded; the device may fill a buffer in part (virtio 1.2, 5.4.6).
constexpr size_t kMaxBytesPerRequest = 64 * 1024;
constexpr size_t kMaxBytesPerTurn = 256 * 1024;
constexpr int kMaxChainsPerTurn = 256;

// Returns the bytes written.
uint32_t Fill(const virtio::Chain& chain) {
  virtio::SliceWriter writer(chain.writable());
  std::array<uint8_t, 4096> random;
  while (writer.remaining() > 0 && writer.written() < kMaxBytesPerRequest) {
    const size_t want = std::min<uint64_t>(writer.remaining(), random.size());
    const ssize_t got = sys::RetryEintr([&] { return getrandom(random.data(), want, 0); });
    if (got <= 0 || !writer.Write({random.data(), static_cast<size_t>(got)})) break;
  }
  return static_cast<uint32_t>(writer.written());
}

}  // namespace

RngDevice::RngDevice(event::EventLoop& loop) : loop_(loop) {
  info_.device_id = VIRTIO_ID_RNG;
  info_.features = virtio::kQueueFeatures;
  info_.queue_sizes = {kQueueSize};
}

RngDevice::~RngDevice() = default;

void RngDevice::ReadConfig(uint32_t, std::span<uint8_t>) {
}
void RngDevice::WriteConfig(uint32_t, std::span<const uint8_t>) {
}
void RngDevice::Configure(uint64_t) {
}
void RngDevice::Reset() {
}

Status RngDevice::StartQueue(uint16_t index, virtio::Queue queue) {
  CHECK(index == 0 && !queue_);
  kick_ = TRY(loop_.AddWatch(queue.kick().fd(), event::Interest::kRead, [this](event::Ready) {
    queue_->kick().Drain();
    ProcessQueue();
  }));
  queue_ = std::move(queue);
  ProcessQueue();
  return {};
}

void RngDevice::StopQueue(uint16_t index, std::function<void(virtio::Queue)> done) {
  CHECK(index == 0 && queue_);
  kick_.Reset();
  again_.Reset();
  virtio::Queue queue = *std::exchange(queue_, std::nullopt);
  done(std::move(queue));
}

void RngDevice::ProcessQueue() {
  size_t bytes = 0;
  for (int turn = 0; turn < kMaxChainsPerTurn && bytes < kMaxBytesPerTurn; ++turn) {
    std::optional<virtio::Chain> chain = queue_->Pop();
    if (!chain) {
      queue_->Flush();
      return;
    }
    const uint32_t written = Fill(*chain);
    bytes += written;
    queue_->Complete(std::move(*chain), written);
  }
  queue_->Flush();
  again_ = loop_.AddTimer(event::Clock::duration::zero(), [this] { ProcessQueue(); });
}

}  // namespace crosvm::devices::rng

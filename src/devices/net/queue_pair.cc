#include "devices/net/queue_pair.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace crosvm::devices::net {
namespace {

// Frames moved in one turn, before other queues and the control socket get theirs.
constexpr int kFramesPerTurn = 256;
// Frames between two publications: the driver gets buffers back while we work on.
constexpr int kFramesPerFlush = 64;
// A port that fails (its interface is gone) is asked again this much later.
constexpr std::chrono::seconds kRetryDelay{1};
constexpr size_t kNumBuffersOffset = 10;  // in virtio_net_hdr_v1

}  // namespace

QueuePair::QueuePair(event::EventLoop& loop, std::unique_ptr<PacketPort> port)
    : loop_(loop),
      port_(std::move(port)),
      spill_(kMaxFrameBytes),
      self_(std::make_shared<QueuePair*>(this)) {
  started_ = port_->Start(loop_, [this] { Receive(); });
}

QueuePair::~QueuePair() {
  // A device goes with its queues only when its process ends; the chains then belong to whoever
  // comes next.
  if (receive_) StopReceive();
}

void QueuePair::Configure(bool mergeable, size_t buffer_bytes) {
  mergeable_ = mergeable;
  buffer_bytes_ = buffer_bytes;
}

Status QueuePair::StartReceive(virtio::Queue queue) {
  CHECK(!receive_);
  receive_ = std::move(queue);
  // Until it holds buffers the port is not listened to.
  starved_ = true;
  if (!started_.has_value()) return Fail(ErrorKind::kIo, "{}", started_.error().ToString());
  receive_kick_ = TRY(loop_.AddWatch(receive_->kick().fd(), event::Interest::kRead,
                                     [this](event::Ready) { OnReceiveKick(); }));
  starved_ = !Hold();
  UpdateReceiving();
  return {};
}

Status QueuePair::StartTransmit(virtio::Queue queue) {
  CHECK(!transmit_);
  transmit_ = std::move(queue);
  transmit_kick_ = TRY(loop_.AddWatch(transmit_->kick().fd(), event::Interest::kRead,
                                      [this](event::Ready) { OnTransmitKick(); }));
  Transmit();
  return {};
}

virtio::Queue QueuePair::StopReceive() {
  receive_kick_.Reset();
  while (!held_.empty()) {
    receive_->Undo(std::move(held_.back()));
    held_.pop_back();
  }
  held_bytes_ = 0;
  slices_.clear();
  waiting_bytes_ = 0;
  virtio::Queue queue = *std::exchange(receive_, std::nullopt);
  UpdateReceiving();
  queue.Flush();
  return queue;
}

virtio::Queue QueuePair::StopTransmit() {
  transmit_kick_.Reset();
  virtio::Queue queue = *std::exchange(transmit_, std::nullopt);
  queue.Flush();
  return queue;
}

void QueuePair::SetAttached(bool attached) {
  attached_ = attached;
  // A detached queue reports an error for as long as it is watched.
  if (!attached) UpdateReceiving();
  port_->SetAttached(attached);
  UpdateReceiving();
}

void QueuePair::UpdateReceiving() {
  const bool receiving = receive_.has_value() && attached_ && !starved_ && !failed_;
  if (receiving == receiving_) return;
  receiving_ = receiving;
  port_->SetReceiving(receiving);
}

void QueuePair::OnReceiveKick() {
  receive_->kick().Drain();
  if (!starved_) return;
  starved_ = false;
  if (waiting_bytes_ != 0) {
    if (!Deliver(std::exchange(waiting_bytes_, 0), true)) return;
    receive_->Flush();
  }
  starved_ = !Hold();
  UpdateReceiving();
}

bool QueuePair::HoldOne() {
  slices_full_ = false;
  std::optional<virtio::Chain> chain = receive_->Pop();
  if (!chain) return false;
  // More parts than the kernel takes in one call: such a buffer is of no use, and goes back unused
  // with the frame that it would have been part of.
  const std::span<const memory::GuestSlice> writable = chain->writable();
  if (slices_.size() + writable.size() <= kMaxFrameSlices) {
    slices_.insert(slices_.end(), writable.begin(), writable.end());
    held_bytes_ += chain->writable_bytes();
    held_.push_back(std::move(*chain));
    return true;
  }
  if (!held_.empty()) {
    slices_full_ = true;
    receive_->Undo(std::move(*chain));
    return false;
  }
  receive_->Complete(std::move(*chain), 0);
  return true;
}

// Holds buffers for one frame. With few left a frame may still fit, so any buffer will do.
bool QueuePair::Hold() {
  if (!mergeable_) {
    while (held_.empty() && HoldOne()) continue;
  } else {
    while (held_bytes_ < buffer_bytes_ && slices_.size() < kMaxFrameSlices && HoldOne()) continue;
  }
  return !held_.empty();
}

void QueuePair::Receive() {
  if (!receiving_) return;
  receive_->SuppressNotifications();
  for (int frames = 1; frames <= kFramesPerTurn; ++frames) {
    if (!Hold()) {
      starved_ = true;
      break;
    }
    const int64_t got = port_->Receive(slices_, spill_);
    if (got == 0) break;
    if (got < 0) {
      LOG_WARN_EVERY(std::chrono::seconds(10), "receiving from the host's network: {}",
                     strerrordesc_np(static_cast<int>(-got)));
      RetryLater();
      break;
    }
    if (!Deliver(static_cast<size_t>(got), false)) break;
    if (frames % kFramesPerFlush == 0) receive_->Flush();
  }
  receive_->Flush();
  UpdateReceiving();
}

void QueuePair::RetryLater() {
  failed_ = true;
  retry_ = loop_.AddTimer(kRetryDelay, [this] {
    failed_ = false;
    UpdateReceiving();
  });
}

bool QueuePair::Wanted(size_t bytes) const {
  if (bytes < kHeaderBytes + kEthernetHeaderBytes) return false;
  if (filter_.promiscuous) return true;
  virtio::SliceReader reader(slices_);
  // The frame lies in the driver's buffers: should it change it meanwhile, then its own filter is
  // what it changes.
  if (!reader.Skip(kHeaderBytes)) return true;
  const std::optional<Mac> destination = reader.Read<Mac>();
  return !destination || filter_.Accepts(*destination);
}

bool QueuePair::Deliver(size_t bytes, bool resumed) {
  if (!resumed) {
    bytes = std::min(bytes, kMaxFrameBytes);
    if (!Wanted(bytes)) {
      ++counters_.rx_filtered;
      return true;
    }
    spill_start_ = static_cast<size_t>(held_bytes_);
  }
  // What did not fit is in the spill, and goes into the buffers that come after those the frame
  // began in.
  while (mergeable_ && held_bytes_ < bytes) {
    const size_t before = static_cast<size_t>(held_bytes_);
    const size_t slices_before = slices_.size();
    if (!HoldOne()) break;
    const size_t length = std::min(bytes, static_cast<size_t>(held_bytes_)) - before;
    const std::span<const memory::GuestSlice> fresh = std::span(slices_).subspan(slices_before);
    virtio::SliceWriter writer(fresh);
    CHECK(writer.Write(std::span(spill_).subspan(before - spill_start_, length)));
  }
  if (held_bytes_ >= bytes) {
    CompleteFrame(bytes);
    return true;
  }
  // The driver's whole ring is too small for this frame.
  if (!mergeable_ || slices_full_ || held_.size() >= receive_->size()) {
    ++counters_.rx_dropped;
    return true;
  }
  waiting_bytes_ = bytes;
  starved_ = true;
  UpdateReceiving();
  return false;
}

void QueuePair::CompleteFrame(size_t bytes) {
  size_t chains = 0;
  for (uint64_t room = 0; room < bytes; ++chains) room += held_[chains].writable_bytes();
  // virtio 1.2, 5.1.6.4.1: 1 when buffers are not merged.
  const std::array<uint8_t, 2> count = {static_cast<uint8_t>(chains & 0xff),
                                        static_cast<uint8_t>(chains >> 8)};
  virtio::SliceWriter header(slices_);
  if (header.Skip(kNumBuffersOffset)) (void)header.Write(count);

  size_t used_slices = 0;
  for (size_t left = bytes; chains > 0; --chains) {
    virtio::Chain chain = std::move(held_.front());
    held_.pop_front();
    const uint64_t room = chain.writable_bytes();
    const uint64_t written = std::min<uint64_t>(left, room);
    used_slices += chain.writable().size();
    held_bytes_ -= room;
    left -= static_cast<size_t>(written);
    receive_->Complete(std::move(chain), static_cast<uint32_t>(written));
  }
  slices_.erase(slices_.begin(), slices_.begin() + static_cast<ptrdiff_t>(used_slices));
  ++counters_.rx_frames;
}

void QueuePair::OnTransmitKick() {
  transmit_->kick().Drain();
  Transmit();
}

void QueuePair::Transmit() {
  if (!transmit_) return;
  transmit_->SuppressNotifications();
  for (int frames = 1; frames <= kFramesPerTurn; ++frames) {
    std::optional<virtio::Chain> chain = transmit_->Pop();
    if (!chain) {
      transmit_->Flush();
      return;
    }
    const std::span<const memory::GuestSlice> frame = chain->readable();
    const bool sane = chain->readable_bytes() >= kHeaderBytes + kEthernetHeaderBytes &&
                      chain->readable_bytes() <= kMaxFrameBytes && frame.size() <= kMaxFrameSlices;
    if (sane && port_->Send(frame)) {
      ++counters_.tx_frames;
    } else {
      ++counters_.tx_dropped;
    }
    transmit_->Complete(std::move(*chain), 0);
    if (frames % kFramesPerFlush == 0) transmit_->Flush();
  }
  transmit_->Flush();
  // More may be waiting; the driver was told not to notify.
  loop_.Post([weak = std::weak_ptr(self_)] {
    if (const std::shared_ptr<QueuePair*> self = weak.lock()) (*self)->Transmit();
  });
}

}  // namespace crosvm::devices::net

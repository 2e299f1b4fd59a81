#include "virtio/queue.h"

#include "base/check.h"
#include "base/log.h"
#include "virtio/packed_ring.h"
#include "virtio/ring.h"
#include "virtio/split_ring.h"
#include "virtio/types.h"

namespace crosvm::virtio {
namespace {

constexpr uint32_t kIndexMask = 0x7fff;
constexpr uint32_t kWrapBit = 1 << 15;
// Chains of up to this many slices cost no allocation from the first request on; longer ones keep
// what they grew to.
constexpr size_t kUsualSlices = 8;

}  // namespace

// vhost-user, VHOST_USER_SET_VRING_BASE: for packed rings, avail index and wrap below, used index
// and wrap above.
RingPosition RingPosition::FromVringBase(uint32_t base, bool packed) {
  if (!packed) return {.next_avail = static_cast<uint16_t>(base)};
  const uint32_t used = base >> 16;
  return {.next_avail = static_cast<uint16_t>(base & kIndexMask),
          .avail_wrap = (base & kWrapBit) != 0,
          .next_used = static_cast<uint16_t>(used & kIndexMask),
          .used_wrap = (used & kWrapBit) != 0};
}

uint32_t RingPosition::ToVringBase(bool packed) const {
  if (!packed) return next_avail;
  const uint32_t avail = (next_avail & kIndexMask) | (avail_wrap ? kWrapBit : 0);
  const uint32_t used = (next_used & kIndexMask) | (used_wrap ? kWrapBit : 0);
  return avail | used << 16;
}

Result<std::unique_ptr<Ring>> Ring::Create(const memory::GuestMemory& memory,
                                           const QueueConfig& config,
                                           std::unique_ptr<InflightQueue> inflight) {
  const bool packed = (config.features & FeatureBit(VIRTIO_F_RING_PACKED)) != 0;
  return packed ? PackedRing::Create(memory, config, std::move(inflight))
                : SplitRing::Create(memory, config, std::move(inflight));
}

Queue::Queue() = default;
Queue::Queue(Queue&&) noexcept = default;
Queue& Queue::operator=(Queue&&) noexcept = default;
Queue::~Queue() = default;

Result<Queue> Queue::Create(memory::GuestMemory memory, const QueueConfig& config,
                            sys::EventFd kick, sys::EventFd call,
                            std::unique_ptr<InflightQueue> inflight) {
  Queue queue;
  queue.ring_ = TRY(Ring::Create(memory, config, std::move(inflight)));
  queue.memory_ = std::move(memory);
  queue.features_ = config.features;
  queue.kick_ = std::move(kick);
  queue.call_ = std::make_shared<sys::EventFd>(std::move(call));
  // Heads of split rings are below the queue size; buffer ids of packed rings are any 16 bits.
  const bool packed = (config.features & FeatureBit(VIRTIO_F_RING_PACKED)) != 0;
  queue.ids_in_flight_.resize(packed ? size_t{1} << 16 : config.size);
  queue.slice_pool_.reserve(config.size);
  return queue;
}

uint16_t Queue::size() const {
  return ring_->size();
}

std::optional<Chain> Queue::Pop() {
  if (broken_) return std::nullopt;
  Chain chain;
  if (slice_pool_.empty()) {
    chain.slices_.reserve(kUsualSlices);
  } else {
    chain.slices_ = std::move(slice_pool_.back());
    slice_pool_.pop_back();
  }
  chain.accepts_unreachable_ = accepts_unreachable_;
  const PopResult result = ring_->Pop(chain);
  if (result != PopResult::kChain) {
    Recycle(chain);
    if (result == PopResult::kBroken) MarkBroken(ring_->why_broken());
    return std::nullopt;
  }
  if (ids_in_flight_[chain.id_]) {
    Recycle(chain);
    MarkBroken("a chain was made available that is in flight already");
    return std::nullopt;
  }
  ids_in_flight_[chain.id_] = true;
  ring_->Accept(chain);
  ++in_flight_;
  chain.live_ = true;
  chain.sequence_ = ++sequence_;
  return chain;
}

void Queue::Recycle(Chain& chain) {
  chain.slices_.clear();
  slice_pool_.push_back(std::move(chain.slices_));
  chain.live_ = false;
}

void Queue::SuppressNotifications() {
  if (!broken_) ring_->SuppressNotifications();
}

bool Queue::HasAvailable() {
  return !broken_ && ring_->HasAvailable();
}

bool Queue::EnableNotifications() {
  return !broken_ && ring_->EnableNotifications();
}

void Queue::Undo(Chain chain) {
  CHECK(chain.live_ && chain.sequence_ == sequence_, "chains are undone newest first");
  --sequence_;
  ring_->Undo(chain);
  ids_in_flight_[chain.id_] = false;
  --in_flight_;
  Recycle(chain);
}

void Queue::Complete(Chain chain, uint32_t written) {
  CHECK(chain.live_);
  // A broken ring is still told of what was good before it broke.
  ring_->Complete(chain, written);
  unpublished_ = true;
  ids_in_flight_[chain.id_] = false;
  --in_flight_;
  Recycle(chain);
}

void Queue::Abandon(Chain chain) {
  CHECK(chain.live_);
  ring_->Abandon(chain);
  ids_in_flight_[chain.id_] = false;
  --in_flight_;
  Recycle(chain);
}

void Queue::Flush() {
  if (Publish()) SignalUsed();
}

bool Queue::Publish() {
  if (!unpublished_) return false;
  unpublished_ = false;
  return ring_->Publish();
}

void Queue::SignalUsed() {
  if (call_->valid()) call_->Signal();
}

RingPosition Queue::position() const {
  CHECK(in_flight_ == 0, "{} chains are in flight", in_flight_);
  return ring_->position();
}

bool Queue::recovery_pending() const {
  return ring_->recovery_pending();
}

void Queue::MarkBroken(const char* why) {
  broken_ = true;
  LOG_WARN_EVERY(std::chrono::seconds(1), "a driver broke its queue: {}", why);
  if (error_.valid()) error_.Signal();
}

}  // namespace crosvm::virtio

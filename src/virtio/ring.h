// What Queue needs of a ring format. Private to virtio/; SplitRing and PackedRing implement it.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "memory/guest_memory.h"
#include "virtio/chain.h"
#include "virtio/inflight.h"
#include "virtio/queue.h"

namespace crosvm::virtio {

// Guest-visible words are stored in the host's byte order, which must be virtio's.
static_assert(std::endian::native == std::endian::little);

enum class PopResult : uint8_t { kChain, kEmpty, kBroken };

class Ring {
 public:
  static Result<std::unique_ptr<Ring>> Create(const memory::GuestMemory& memory,
                                              const QueueConfig& config,
                                              std::unique_ptr<InflightQueue> inflight);
  virtual ~Ring() = default;

  uint16_t size() const { return size_; }
  // Why Pop() said kBroken. Static text.
  const char* why_broken() const { return why_broken_; }

  // Fills `chain`, which is empty. kEmpty leaves notifications enabled.
  virtual PopResult Pop(Chain& chain) = 0;
  // Called when the popped chain is accepted, before the device sees it: records it as in flight.
  virtual void Accept(Chain& chain) = 0;
  virtual void Undo(const Chain& chain) = 0;
  virtual void SuppressNotifications() = 0;
  virtual bool HasAvailable() = 0;
  // True when something has become available meanwhile.
  virtual bool EnableNotifications() = 0;
  // Writes the used element; the driver does not see it before Publish().
  virtual void Complete(const Chain& chain, uint32_t written) = 0;
  // Forgets the chain without a used element.
  virtual void Abandon(const Chain& chain) = 0;
  // Shows the driver all used elements; true when it wants an interrupt for them. REQUIRES: there
  // are some.
  virtual bool Publish() = 0;
  virtual RingPosition position() const = 0;
  // Requests of a predecessor are waiting that Pop() has not returned yet.
  virtual bool recovery_pending() const = 0;

 protected:
  explicit Ring(uint16_t size) : size_(size) {}
  PopResult Broken(const char* why) {
    why_broken_ = why;
    return PopResult::kBroken;
  }

  uint16_t size_ = 0;
  const char* why_broken_ = "";
};

}  // namespace crosvm::virtio

// A virtqueue as the device sees it: split and packed rings behind one class (virtio 1.2, 2.7
// and 2.8). Used on one thread, in a device process.
//
//   while (auto chain = queue.Pop()) { …; queue.Complete(std::move(*chain), written); }
//   queue.Flush();   // one used-index store and at most one interrupt for the batch
//
// Everything in the rings is the guest's: a broken ring (index out of range, loop, bad address)
// makes Pop() return nothing, `broken()` true and signals the error eventfd; never a crash.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/result.h"
#include "memory/guest_memory.h"
#include "sys/event_fd.h"
#include "virtio/chain.h"
#include "virtio/inflight.h"

namespace crosvm::virtio {

// Guest-physical addresses of the three areas (virtio 1.2, 2.6: Descriptor Area, Driver Area,
// Device Area).
struct RingAddresses {
  memory::GuestAddr descriptors;
  memory::GuestAddr driver;  // avail ring / driver event suppression
  memory::GuestAddr device;  // used ring / device event suppression
};

// Where a queue stands. For split rings `next_avail` alone travels in vhost-user's
// GET/SET_VRING_BASE; the used index is read from the ring. Packed rings carry both with their wrap
// counters in bit 15 and bit 31 as that message does.
struct RingPosition {
  uint16_t next_avail = 0;
  bool avail_wrap = true;  // packed only
  uint16_t next_used = 0;
  bool used_wrap = true;  // packed only

  static RingPosition FromVringBase(uint32_t base, bool packed);
  uint32_t ToVringBase(bool packed) const;
};

struct QueueConfig {
  uint16_t size = 0;  // a power of two for split rings
  RingAddresses addresses;
  uint64_t features = 0;  // acknowledged: RING_PACKED, INDIRECT_DESC, EVENT_IDX count here
  RingPosition position;
};

class Ring;

class Queue {
 public:
  // kInvalidArgument when the size or an address does not fit the memory. `inflight` may be null:
  // no crash recovery. The call eventfd may be invalid (polling driver). When `inflight` holds
  // requests of a predecessor, Pop() returns these first, in their original order.
  static Result<Queue> Create(memory::GuestMemory memory, const QueueConfig& config,
                              sys::EventFd kick, sys::EventFd call,
                              std::unique_ptr<InflightQueue> inflight = nullptr);
  Queue(Queue&&) noexcept;
  Queue& operator=(Queue&&) noexcept;
  ~Queue();

  uint16_t size() const;
  const memory::GuestMemory& memory() const { return memory_; }
  // Readable when the driver has notified; drain it before Pop().
  const sys::EventFd& kick() const { return kick_; }
  void SetCall(sys::EventFd call) { *call_ = std::move(call); }
  // The call eventfd by reference, so that who made the queue can replace it after it was handed on
  // (a front-end masks interrupts that way). Replacing: same thread as the queue.
  std::shared_ptr<sys::EventFd> call_handle() const { return call_; }
  // Signalled when the ring breaks (vhost-user SET_VRING_ERR); may be invalid.
  void SetErrorEvent(sys::EventFd error) { error_ = std::move(error); }

  // From here on a buffer outside memory does not break the ring: its chain says that it is
  // unreachable(), and the device answers with an error. For devices with shared memory, whose
  // drivers name addresses in it without knowing (a program writes a file out of what it has
  // mapped of another).
  void AcceptUnreachable() { accepts_unreachable_ = true; }

  // The next request, or nothing when the driver has made none available or the ring is broken.
  // When nothing is left, notifications are enabled before it returns, with the re-check that
  // virtio 1.2, 2.7.10.1 wants.
  std::optional<Chain> Pop();
  // While work is pending anyway, tells the driver not to notify (a hint). Pop() undoes it when the
  // ring runs empty.
  void SuppressNotifications();
  // For a device that looks for a while before it sleeps (event/busy_poll.h). Pop() would return a
  // chain, or break the ring. Leaves notifications as they are.
  bool HasAvailable();
  // What Pop() does when it returns nothing. True: something has become available meanwhile, and
  // the driver may not notify of it.
  [[nodiscard]] bool EnableNotifications();
  // Puts the chain back that was popped last (of those not undone), so that the next Pop() returns
  // it again: net has no packet for this buffer yet. Several are undone newest first. REQUIRES:
  // that order; chains popped earlier may be in flight or completed.
  void Undo(Chain chain);

  // Hands the chain back with the number of bytes written to its writable part. Chains may be
  // completed in any order.
  void Complete(Chain chain, uint32_t written);
  // Completes without telling the driver: only when the queue is being reset by the driver.
  void Abandon(Chain chain);
  // Publishes what was completed and interrupts the driver if it wants to be.
  void Flush();
  // Publishes only. True: the driver wants to be interrupted, which the caller does by
  // call_handle() (it may let go of a lock before).
  [[nodiscard]] bool Publish();
  // Interrupts unconditionally; after a restart, when the predecessor may have died between publish
  // and interrupt.
  void SignalUsed();

  bool broken() const { return broken_; }
  uint32_t chains_in_flight() const { return in_flight_; }
  // REQUIRES: no chain is in flight.
  RingPosition position() const;
  uint64_t features() const { return features_; }
  // Requests of a predecessor are waiting that Pop() has not returned yet; their in-flight records
  // are still needed.
  bool recovery_pending() const;

 private:
  Queue();
  void MarkBroken(const char* why);
  void Recycle(Chain& chain);

  memory::GuestMemory memory_;
  uint64_t features_ = 0;
  std::unique_ptr<Ring> ring_;
  sys::EventFd kick_;
  std::shared_ptr<sys::EventFd> call_;
  sys::EventFd error_;
  uint32_t in_flight_ = 0;
  uint32_t sequence_ = 0;
  bool broken_ = false;
  bool accepts_unreachable_ = false;
  bool unpublished_ = false;
  std::vector<bool> ids_in_flight_;
  std::vector<std::vector<memory::GuestSlice>> slice_pool_;
};

}  // namespace crosvm::virtio

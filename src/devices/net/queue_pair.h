// One receive and one transmit queue and the port between them and the host. Lives on one loop: the
// device's, or that of a thread of its own (pair_thread.h).
//
// Receiving holds buffers that the driver has made available, so that the kernel can copy a frame
// straight into them; a frame longer than what is held ends in a spill buffer and is copied on into
// further buffers as they come. Held buffers are undone when the queue stops. Memory: one spill
// buffer of kMaxFrameBytes for each pair, nothing else.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "devices/net/packet_port.h"
#include "devices/net/rx_filter.h"
#include "event/event_loop.h"
#include "virtio/queue.h"

namespace crosvm::devices::net {

// Counted on the pair's thread, read on any.
class Counter {
 public:
  // ORDERING: relaxed; there is one writer, and nothing follows from the number.
  void operator++() { value_.store(value_.load(kOrder) + 1, kOrder); }
  operator uint64_t() const { return value_.load(kOrder); }

 private:
  static constexpr std::memory_order kOrder = std::memory_order_relaxed;
  std::atomic<uint64_t> value_{0};
};

struct PairCounters {
  Counter rx_frames;
  Counter rx_dropped;   // too long for the driver's buffers
  Counter rx_filtered;  // not wanted by the driver
  Counter tx_frames;
  Counter tx_dropped;  // malformed, or refused by the port
};

class QueuePair {
 public:
  // `loop` outlives the pair.
  QueuePair(event::EventLoop& loop, std::unique_ptr<PacketPort> port);
  ~QueuePair();

  // Before the queues start. `buffer_bytes`: what to hold for one frame.
  void Configure(bool mergeable, size_t buffer_bytes);

  // A queue whose start fails is the pair's all the same, and does nothing until it is stopped:
  // where nobody waits for the answer (pair_thread.h), others take it for running.
  Status StartReceive(virtio::Queue queue);
  Status StartTransmit(virtio::Queue queue);
  virtio::Queue StopReceive();
  virtio::Queue StopTransmit();

  // Which frames the driver wants; until then all.
  void SetFilter(const RxFilter& filter) { filter_ = filter; }
  // Whether the host gives frames to this pair.
  void SetAttached(bool attached);
  // The driver has given buffers to the receive queue: it means to use this pair.
  bool has_buffers() const { return !held_.empty(); }

  PacketPort& port() { return *port_; }
  const PairCounters& counters() const { return counters_; }

 private:
  void OnReceiveKick();
  void OnTransmitKick();
  void Receive();
  void Transmit();
  bool Hold();
  bool HoldOne();
  // Hands a frame of `bytes` (of which those beyond the held buffers are in the spill) to the
  // driver. False when it has to wait for buffers; it is then called again, `resumed`, when there
  // are.
  bool Deliver(size_t bytes, bool resumed);
  bool Wanted(size_t bytes) const;
  void CompleteFrame(size_t bytes);
  void UpdateReceiving();
  void RetryLater();

  event::EventLoop& loop_;
  const std::unique_ptr<PacketPort> port_;
  RxFilter filter_;
  Status started_;
  bool mergeable_ = false;
  size_t buffer_bytes_ = 0;

  std::optional<virtio::Queue> receive_;
  event::Watch receive_kick_;
  std::deque<virtio::Chain> held_;
  uint64_t held_bytes_ = 0;
  std::vector<memory::GuestSlice> slices_;  // those of held_, in order
  bool slices_full_ = false;                // the last HoldOne() failed for lack of room there
  std::vector<uint8_t> spill_;
  size_t waiting_bytes_ = 0;  // of a frame whose end is in the spill; 0: none
  size_t spill_start_ = 0;    // where in the frame that waits the spill begins
  bool attached_ = true;
  bool receiving_ = false;
  bool starved_ = false;  // no buffers: until the driver's next kick
  bool failed_ = false;   // the port: until retry_ fires
  event::Timer retry_;

  std::optional<virtio::Queue> transmit_;
  event::Watch transmit_kick_;

  PairCounters counters_;
  std::shared_ptr<QueuePair*> self_;  // posted callbacks hold a weak reference
};

}  // namespace crosvm::devices::net

// All streams of a device, and the packets that make them (virtio 1.2, 5.10.6): takes the guest's
// packets, produces those for the guest. Lives on the device's loop; does not outlive the device.
//
// Memory is bounded: kMaxStreams streams, those that linger included, of kWindow bytes each at
// most, and kMaxResets answers to packets of no stream, beyond which the guest's packets wait.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "devices/vsock/connector.h"
#include "devices/vsock/stream.h"
#include "devices/vsock/vsock_wire.h"
#include "event/event_loop.h"
#include "virtio/queue.h"

namespace crosvm::devices::vsock {

inline constexpr size_t kMaxStreams = 512;
inline constexpr size_t kMaxResets = 256;

struct StreamCounters {
  uint64_t opened = 0;
  uint64_t refused = 0;    // no listener, or too many streams
  uint64_t malformed = 0;  // packets that make no sense
};

class StreamTable {
 public:
  // `output`: called when there is something for the guest, outside of TakePacket() and Produce().
  StreamTable(event::EventLoop& loop, uint64_t guest_cid, Connector& connector,
              std::function<void()> output);
  ~StreamTable();

  // One packet of the guest. `complete`: the chain had all of the payload that the header promises.
  void TakePacket(const PacketHeader& header, std::span<const memory::GuestSlice> payload,
                  bool complete);
  // Too many answers wait for the guest to take them: its packets should wait too.
  bool congested() const { return resets_.size() >= kMaxResets; }

  // A program of the host wants to reach a port of the guest.
  void ConnectToGuest(uint32_t port, sys::UniqueFd socket);

  bool HasOutput() const { return !resets_.empty() || !ready_.empty(); }
  // Puts something into the guest's buffers. False when there is nothing, or no buffer.
  bool Produce(virtio::Queue& receive);

  // The guest has forgotten every stream.
  void Reset();

  size_t size() const { return streams_.size() + lingering_.size(); }
  const StreamCounters& counters() const { return counters_; }

 private:
  using Handle = std::shared_ptr<Stream>;

  void Open(const PacketHeader& header);
  void TryConnect(const Handle& stream);
  void Established(const Handle& stream, const PacketHeader& header,
                   std::span<const memory::GuestSlice> payload);
  Status Attach(const Handle& stream, sys::UniqueFd socket);
  void OnReady(const Handle& stream, event::Ready ready);
  // After anything that changed the stream: queues it, ends it, watches what it waits for.
  void Settle(const Handle& stream);
  void Enqueue(Stream& stream);
  void Dequeue(Stream& stream);
  // Tells the guest that the stream is no more, and forgets it.
  void Abort(const Handle& stream);
  // Forgets the stream on the guest's side; what it has sent is still delivered. Takes a handle of
  // its own, as the caller's may be the table's.
  void Retire(Handle stream);
  void AnswerReset(const PacketHeader& to);
  void SetDeadline(Stream& stream, event::Clock::duration delay);
  void OnSweep();
  void OnRetry();

  std::optional<virtio::Chain> PopUsable(virtio::Queue& receive);
  PacketHeader MakeHeader(Stream& stream, uint16_t op) const;
  bool ProduceFrom(Stream& stream, virtio::Queue& receive, virtio::Chain chain);
  bool ProduceData(Stream& stream, virtio::Queue& receive, virtio::Chain first);
  uint32_t NextHostPort(uint32_t guest_port);

  event::EventLoop& loop_;
  const uint64_t guest_cid_;
  Connector& connector_;
  const std::function<void()> output_;
  std::unordered_map<uint64_t, Handle> streams_;  // by Stream::Ports::key()
  std::list<Handle> lingering_;
  std::list<Stream*> ready_;  // those that have something for the guest, in turn
  std::deque<PacketHeader> resets_;
  uint32_t next_port_ = 0;
  event::Timer sweep_;
  bool sweeping_ = false;
  event::Timer retry_;
  bool retrying_ = false;
  StreamCounters counters_;

  // Scratch of ProduceData().
  struct Part {
    virtio::Chain chain;
    size_t room = 0;
  };
  std::vector<Part> parts_;
  std::vector<memory::GuestSlice> slices_;
  std::vector<iovec> iovecs_;
};

}  // namespace crosvm::devices::vsock

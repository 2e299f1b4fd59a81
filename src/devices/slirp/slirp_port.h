// The host's side of a network interface in user mode: the guest's frames go through the filter to
// libslirp or the DNS relay, and theirs wait here for the guest. On the loop of the slirp process.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "devices/net/packet_port.h"
#include "devices/slirp/dns_relay.h"
#include "devices/slirp/filter.h"
#include "devices/slirp/stack.h"

namespace crosvm::devices::slirp {

struct PortOptions {
  FilterOptions filter;
  std::vector<config::IpAddress> resolvers;
  std::vector<config::HostForward> forwards;
};

struct PortCounters {
  uint64_t refused = 0;  // frames of the guest that the filter stopped
  uint64_t unparsed = 0;
  uint64_t dropped = 0;  // frames for the guest that found the queue full
};

class SlirpPort final : public net::PacketPort {
 public:
  // Frames that wait for the guest. When half of it is used sockets are not read any more.
  static constexpr size_t kMaxQueuedBytes = size_t{4} << 20;
  static constexpr size_t kMaxQueuedFrames = 2048;

  // `loop` outlives the port.
  static Result<std::unique_ptr<SlirpPort>> Create(event::EventLoop& loop, PortOptions options);

  Status Start(event::EventLoop& loop, std::function<void()> readable) override;
  void SetReceiving(bool on) override;
  bool Send(std::span<const memory::GuestSlice> frame) override;
  int64_t Receive(std::span<const memory::GuestSlice> buffers, std::span<uint8_t> spill) override;
  Status SetOffloads(uint64_t guest_offloads) override;
  void SetAttached(bool) override {}
  Status ChangeForward(bool add, std::string_view forward) override;
  std::vector<std::string> Forwards() const override;

  Stack& stack() { return *stack_; }
  const Filter& filter() const { return filter_; }
  const DnsRelay& relay() const { return relay_; }
  const PortCounters& counters() const { return counters_; }
  const std::vector<config::HostForward>& forwards() const { return forwards_; }
  Status AddForward(const config::HostForward& forward);
  Status RemoveForward(const config::HostForward& forward);

 private:
  SlirpPort(event::EventLoop& loop, PortOptions options);

  void Deliver(std::span<const uint8_t> frame);
  void Queue(std::vector<uint8_t> frame);
  // Lets the driver take what waits.
  void Flush();
  void ScheduleReadable();

  event::EventLoop& loop_;
  Filter filter_;
  DnsRelay relay_;
  std::unique_ptr<Stack> stack_;
  std::vector<config::HostForward> forwards_;
  bool has_udp_forwards_ = false;
  std::function<void()> readable_;
  bool receiving_ = false;
  bool readable_scheduled_ = false;
  bool checksums_trusted_ = false;  // the driver takes our word for checksums
  std::vector<uint8_t> frame_;      // of the guest; kept for its room
  std::deque<std::vector<uint8_t>> queue_;
  std::vector<std::vector<uint8_t>> spare_;  // buffers of frames that were taken
  size_t queued_bytes_ = 0;
  PortCounters counters_;
  std::shared_ptr<SlirpPort*> self_;  // posted callbacks hold a weak reference
};

}  // namespace crosvm::devices::slirp

// virtio-net (virtio 1.2, 5.1): pairs of queues over ports, and the control queue. Lives in the net
// process, on the thread of its loop; pairs beyond the first on threads of theirs.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "devices/module/control.h"
#include "devices/net/control_command.h"
#include "devices/net/net_wire.h"
#include "devices/net/packet_port.h"
#include "devices/net/pair_thread.h"
#include "devices/net/rx_filter.h"
#include "event/event_loop.h"
#include "virtio/device.h"

namespace crosvm::devices::net {

struct DeviceOptions {
  Mac mac{};
  uint16_t mtu = 0;            // told to the driver; 0: not
  uint64_t port_features = 0;  // VIRTIO_NET_F_* of offloads that the ports can do
  // Each pair but the first has a thread of its own.
  bool threads = false;
};

class NetDevice : public virtio::Device, public Controllable {
 public:
  // 1 to kMaxPairs ports, one for each pair. `loop` outlives the device. Fails when a thread cannot
  // be had.
  static Result<std::unique_ptr<NetDevice>> Create(event::EventLoop& loop,
                                                   std::vector<std::unique_ptr<PacketPort>> ports,
                                                   const DeviceOptions& options);
  ~NetDevice() override;

  const virtio::DeviceInfo& info() const override { return info_; }
  void ReadConfig(uint32_t offset, std::span<uint8_t> data) override;
  void WriteConfig(uint32_t offset, std::span<const uint8_t> data) override;
  void Configure(uint64_t features) override;
  Status StartQueue(uint16_t index, virtio::Queue queue) override;
  void StopQueue(uint16_t index, std::function<void(virtio::Queue)> done) override;
  void Reset() override;

  Status HandleControl(const ControlRequest& request) override;
  Status HandleQuery(const ControlRequest& request, ControlReply& reply) override;

  const PairCounters& counters(size_t pair) const { return pairs_[pair]->counters(); }
  size_t attached_pairs() const { return attached_pairs_; }

 private:
  NetDevice(event::EventLoop& loop, const DeviceOptions& options);

  bool Has(unsigned feature) const { return ((features_ >> feature) & 1) != 0; }
  uint16_t control_index() const;
  void OnControl();
  bool Apply(const ControlCommand& command);
  void Attach(size_t pairs);
  // To every pair, on its thread.
  void ForEachPair(const std::function<void(QueuePair&)>& work);
  void ShareFilter();
  void OnBuffers(size_t pair);
  // False (which is logged) when the host cannot; what was set before stays.
  bool SetOffloads(uint64_t offloads);
  NetReport Report() const;

  event::EventLoop& loop_;
  const DeviceOptions options_;
  virtio::DeviceInfo info_;
  virtio_net_config config_{};
  uint64_t features_ = 0;
  RxFilter filter_;
  std::vector<std::unique_ptr<PairThread>> pairs_;
  size_t attached_pairs_ = 0;
  std::optional<virtio::Queue> control_;
  event::Watch control_kick_;
  std::shared_ptr<NetDevice*> self_;  // posted callbacks hold a weak reference
};

}  // namespace crosvm::devices::net

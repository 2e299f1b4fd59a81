#include "devices/net/net_device.h"

#include <chrono>
#include <cstddef>
#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "devices/net/net_wire.h"

namespace crosvm::devices::net {
namespace {

using virtio::FeatureBit;

constexpr uint16_t kReceiveQueueSize = 1024;
constexpr uint16_t kTransmitQueueSize = 256;
constexpr uint16_t kControlQueueSize = 64;
// Commands of one turn; a driver may go on adding while we work.
constexpr int kCommandsPerTurn = 64;
// Of virtio_net_config: up to and with `mtu`; what follows belongs to features that are not
// offered.
constexpr uint32_t kConfigBytes = offsetof(virtio_net_config, speed);
constexpr uint16_t kUsualMtu = 1500;

}  // namespace

NetDevice::NetDevice(event::EventLoop& loop, const DeviceOptions& options)
    : loop_(loop), options_(options), self_(std::make_shared<NetDevice*>(this)) {
}

Result<std::unique_ptr<NetDevice>> NetDevice::Create(event::EventLoop& loop,
                                                     std::vector<std::unique_ptr<PacketPort>> ports,
                                                     const DeviceOptions& options) {
  CHECK(!ports.empty() && ports.size() <= kMaxPairs);
  std::unique_ptr<NetDevice> self(new NetDevice(loop, options));
  virtio::DeviceInfo& info = self->info_;
  info.device_id = VIRTIO_ID_NET;
  info.features = virtio::kQueueFeatures | options.port_features | FeatureBit(VIRTIO_NET_F_MAC) |
                  FeatureBit(VIRTIO_NET_F_MRG_RXBUF) | FeatureBit(VIRTIO_NET_F_STATUS) |
                  FeatureBit(VIRTIO_NET_F_CTRL_VQ) | FeatureBit(VIRTIO_NET_F_CTRL_RX) |
                  FeatureBit(VIRTIO_NET_F_CTRL_RX_EXTRA) | FeatureBit(VIRTIO_NET_F_CTRL_MAC_ADDR);
  if ((options.port_features & kGuestOffloads) != 0)
    info.features |= FeatureBit(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
  if (options.mtu != 0) info.features |= FeatureBit(VIRTIO_NET_F_MTU);
  if (ports.size() > 1) info.features |= FeatureBit(VIRTIO_NET_F_MQ);
  for (size_t pair = 0; pair < ports.size(); ++pair) {
    info.queue_sizes.push_back(kReceiveQueueSize);
    info.queue_sizes.push_back(kTransmitQueueSize);
  }
  info.queue_sizes.push_back(kControlQueueSize);
  info.config_size = kConfigBytes;

  self->config_.status = VIRTIO_NET_S_LINK_UP;
  self->config_.max_virtqueue_pairs = static_cast<uint16_t>(ports.size());
  self->config_.mtu = options.mtu;
  for (size_t i = 0; i < ports.size(); ++i) {
    self->pairs_.push_back(
        options.threads && i > 0
            ? TRY_CONTEXT(PairThread::Start(std::move(ports[i]), fmt::format("pair {}", i)),
                          "a thread for pair {} of queues", i)
            : std::make_unique<PairThread>(loop, std::move(ports[i])));
  }
  self->Reset();
  return self;
}

NetDevice::~NetDevice() = default;

void NetDevice::ReadConfig(uint32_t offset, std::span<uint8_t> data) {
  CHECK(offset + data.size() <= kConfigBytes);
  // SAFETY: a packed struct of integers, little-endian like this host.
  memcpy(data.data(), reinterpret_cast<const uint8_t*>(&config_) + offset, data.size());
}

void NetDevice::WriteConfig(uint32_t, std::span<const uint8_t>) {
  // A driver of virtio 1 changes its address by the control queue (virtio 1.2, 5.1.4.2: the field
  // is read-only).
}

void NetDevice::Configure(uint64_t features) {
  features_ = features;
  const size_t mtu = Has(VIRTIO_NET_F_MTU) ? options_.mtu : kUsualMtu;
  const size_t frame = (features & kGuestSegmentation) != 0
                           ? kMaxFrameBytes
                           : kHeaderBytes + kEthernetHeaderBytes + 4 + mtu;
  ForEachPair([mergeable = Has(VIRTIO_NET_F_MRG_RXBUF), frame](QueuePair& pair) {
    pair.Configure(mergeable, frame);
  });
  (void)SetOffloads(features & kGuestOffloads);
}

// virtio 1.2, 5.1.2: the control queue comes after the pairs that the driver knows of.
uint16_t NetDevice::control_index() const {
  if (!Has(VIRTIO_NET_F_CTRL_VQ)) return UINT16_MAX;
  return static_cast<uint16_t>(Has(VIRTIO_NET_F_MQ) ? 2 * pairs_.size() : 2);
}

Status NetDevice::StartQueue(uint16_t index, virtio::Queue queue) {
  if (index == control_index()) {
    CHECK(!control_);
    control_kick_ =
        TRY(loop_.AddWatch(queue.kick().fd(), event::Interest::kRead, [this](event::Ready) {
          control_->kick().Drain();
          OnControl();
        }));
    control_ = std::move(queue);
    OnControl();
    return {};
  }
  const size_t pair = index / 2U;
  if (pair >= pairs_.size())
    return Fail(ErrorKind::kInvalidArgument, "the driver has no use for queue {}", index);
  // On its own thread a queue starts after we have answered. What can fail is a watch of its kick;
  // the driver then waits in vain, as if the host were busy.
  auto shared = std::make_shared<virtio::Queue>(std::move(queue));
  Status started;
  pairs_[pair]->Run([this, shared, index, &started, threaded = pairs_[pair]->threaded(),
                     weak = std::weak_ptr(self_)](QueuePair& running) {
    const bool transmit = index % 2 == 1;
    Status status = transmit ? running.StartTransmit(std::move(*shared))
                             : running.StartReceive(std::move(*shared));
    const bool used = status.has_value() && !transmit && running.has_buffers();
    if (!threaded) {
      // The caller knows at once, and will not stop what did not start.
      if (!status.has_value()) (void)(transmit ? running.StopTransmit() : running.StopReceive());
      started = std::move(status);
      if (used) OnBuffers(index / 2U);
      return;
    }
    if (!status.has_value()) LOG_WARN("queue {}: {}", index, status.error().ToString());
    if (!used) return;
    loop_.Post([weak, pair_index = index / 2U] {
      if (const std::shared_ptr<NetDevice*> self = weak.lock()) (*self)->OnBuffers(pair_index);
    });
  });
  return started;
}

// A driver fills the receive queues of the pairs in use only. That they are filled when the queue
// starts means that this process follows one that died; the driver will not say again how many
// pairs it uses.
void NetDevice::OnBuffers(size_t pair) {
  if (pair >= attached_pairs_) Attach(pair + 1);
}

void NetDevice::StopQueue(uint16_t index, std::function<void(virtio::Queue)> done) {
  if (index == control_index()) {
    control_kick_.Reset();
    virtio::Queue queue = *std::exchange(control_, std::nullopt);
    queue.Flush();
    done(std::move(queue));
    return;
  }
  const size_t pair = index / 2U;
  CHECK(pair < pairs_.size());
  pairs_[pair]->Run([this, index, done = std::move(done),
                     threaded = pairs_[pair]->threaded()](QueuePair& running) {
    virtio::Queue queue = index % 2 == 1 ? running.StopTransmit() : running.StopReceive();
    if (!threaded) {
      done(std::move(queue));
      return;
    }
    auto shared = std::make_shared<virtio::Queue>(std::move(queue));
    loop_.Post([shared, done] { done(std::move(*shared)); });
  });
}

void NetDevice::Reset() {
  features_ = 0;
  filter_ = RxFilter{.own = options_.mac};
  ShareFilter();
  memcpy(config_.mac, options_.mac.data(), options_.mac.size());
  (void)SetOffloads(0);
  Attach(1);
}

void NetDevice::ForEachPair(const std::function<void(QueuePair&)>& work) {
  for (const auto& pair : pairs_) pair->Run(work);
}

void NetDevice::ShareFilter() {
  ForEachPair([filter = filter_](QueuePair& pair) { pair.SetFilter(filter); });
}

void NetDevice::Attach(size_t pairs) {
  attached_pairs_ = pairs;
  for (size_t i = 0; i < pairs_.size(); ++i) {
    pairs_[i]->Run([attached = i < pairs](QueuePair& pair) { pair.SetAttached(attached); });
  }
}

bool NetDevice::SetOffloads(uint64_t offloads) {
  // One setting for the whole interface, made through any of its queues.
  const Status set = pairs_[0]->here().port().SetOffloads(offloads);
  if (!set.has_value()) LOG_WARN_EVERY(std::chrono::seconds(10), "{}", set.error().ToString());
  return set.has_value();
}

Status NetDevice::HandleControl(const ControlRequest&) {
  return Fail(ErrorKind::kUnsupported, "not a message for a network interface");
}

Status NetDevice::HandleQuery(const ControlRequest& request, ControlReply& reply) {
  if (const auto* change = std::get_if<ChangeForward>(&request))
    return pairs_[0]->here().port().ChangeForward(change->add, change->forward);
  if (!std::holds_alternative<QueryNet>(request)) return HandleControl(request);
  reply.net = Report();
  return {};
}

NetReport NetDevice::Report() const {
  const uint8_t* const mac = config_.mac;
  NetReport report{.mac = fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1],
                                      mac[2], mac[3], mac[4], mac[5]),
                   .mtu = options_.mtu,
                   .driver = features_ != 0,
                   .pairs_in_use = static_cast<uint16_t>(attached_pairs_),
                   .pairs = {},
                   .forwards = pairs_[0]->here().port().Forwards()};
  for (const auto& pair : pairs_) {
    const PairCounters& counters = pair->counters();
    report.pairs.push_back({.rx_frames = counters.rx_frames,
                            .rx_dropped = counters.rx_dropped,
                            .rx_filtered = counters.rx_filtered,
                            .tx_frames = counters.tx_frames,
                            .tx_dropped = counters.tx_dropped});
  }
  return report;
}

void NetDevice::OnControl() {
  if (!control_) return;
  for (int turn = 0; turn < kCommandsPerTurn; ++turn) {
    std::optional<virtio::Chain> chain = control_->Pop();
    if (!chain) {
      control_->Flush();
      return;
    }
    const std::optional<ControlCommand> command = ParseControlCommand(chain->readable());
    const uint8_t ack = command && Apply(*command) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
    virtio::SliceWriter writer(chain->writable());
    const bool written = writer.Write(ack);
    control_->Complete(std::move(*chain), written ? 1 : 0);
  }
  control_->Flush();
  loop_.Post([weak = std::weak_ptr(self_)] {
    if (const std::shared_ptr<NetDevice*> self = weak.lock()) (*self)->OnControl();
  });
}

bool NetDevice::Apply(const ControlCommand& command) {
  if (const auto* mode = std::get_if<SetRxMode>(&command)) {
    const unsigned feature = mode->mode <= VIRTIO_NET_CTRL_RX_ALLMULTI ? VIRTIO_NET_F_CTRL_RX
                                                                       : VIRTIO_NET_F_CTRL_RX_EXTRA;
    if (!Has(feature)) return false;
    bool* const flags[] = {&filter_.promiscuous,  &filter_.all_multicast, &filter_.all_unicast,
                           &filter_.no_multicast, &filter_.no_unicast,    &filter_.no_broadcast};
    static_assert(std::size(flags) == VIRTIO_NET_CTRL_RX_NOBCAST + 1);
    *flags[mode->mode] = mode->on;
    ShareFilter();
    return true;
  }
  if (const auto* tables = std::get_if<SetMacTables>(&command)) {
    if (!Has(VIRTIO_NET_F_CTRL_RX)) return false;
    filter_.unicast = tables->unicast;
    filter_.multicast = tables->multicast;
    filter_.unicast_overflow = tables->unicast_overflow;
    filter_.multicast_overflow = tables->multicast_overflow;
    ShareFilter();
    return true;
  }
  if (const auto* mac = std::get_if<SetMac>(&command)) {
    if (!Has(VIRTIO_NET_F_CTRL_MAC_ADDR)) return false;
    filter_.own = mac->mac;
    ShareFilter();
    memcpy(config_.mac, mac->mac.data(), mac->mac.size());
    return true;
  }
  if (const auto* pairs = std::get_if<SetPairs>(&command)) {
    if (!Has(VIRTIO_NET_F_MQ) || pairs->pairs == 0 || pairs->pairs > pairs_.size()) return false;
    Attach(pairs->pairs);
    return true;
  }
  const uint64_t offloads = std::get<SetGuestOffloads>(command).offloads;
  if (!Has(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) || (offloads & ~(features_ & kGuestOffloads)) != 0)
    return false;
  return SetOffloads(offloads);
}

}  // namespace crosvm::devices::net

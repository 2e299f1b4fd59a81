#include "devices/net/net_device.h"

#include <cstddef>
#include <cstring>

#include "base/check.h"
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

NetDevice::NetDevice(event::EventLoop& loop, std::vector<std::unique_ptr<PacketPort>> ports,
                     const DeviceOptions& options)
    : loop_(loop), options_(options), self_(std::make_shared<NetDevice*>(this)) {
  CHECK(!ports.empty() && ports.size() <= kMaxPairs);
  info_.device_id = VIRTIO_ID_NET;
  info_.features = virtio::kQueueFeatures | options.port_features | FeatureBit(VIRTIO_NET_F_MAC) |
                   FeatureBit(VIRTIO_NET_F_MRG_RXBUF) | FeatureBit(VIRTIO_NET_F_STATUS) |
                   FeatureBit(VIRTIO_NET_F_CTRL_VQ) | FeatureBit(VIRTIO_NET_F_CTRL_RX) |
                   FeatureBit(VIRTIO_NET_F_CTRL_RX_EXTRA) | FeatureBit(VIRTIO_NET_F_CTRL_MAC_ADDR);
  if ((options.port_features & kGuestOffloads) != 0)
    info_.features |= FeatureBit(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
  if (options.mtu != 0) info_.features |= FeatureBit(VIRTIO_NET_F_MTU);
  if (ports.size() > 1) info_.features |= FeatureBit(VIRTIO_NET_F_MQ);
  for (size_t pair = 0; pair < ports.size(); ++pair) {
    info_.queue_sizes.push_back(kReceiveQueueSize);
    info_.queue_sizes.push_back(kTransmitQueueSize);
  }
  info_.queue_sizes.push_back(kControlQueueSize);
  info_.config_size = kConfigBytes;

  config_.status = VIRTIO_NET_S_LINK_UP;
  config_.max_virtqueue_pairs = static_cast<uint16_t>(ports.size());
  config_.mtu = options.mtu;
  for (std::unique_ptr<PacketPort>& port : ports) {
    pairs_.push_back(std::make_unique<QueuePair>(loop_, std::move(port), filter_));
  }
  Reset();
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
  for (const auto& pair : pairs_) pair->Configure(Has(VIRTIO_NET_F_MRG_RXBUF), frame);
  SetOffloads(features & kGuestOffloads);
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
  if (index % 2 == 1) return pairs_[pair]->StartTransmit(std::move(queue));
  TRY(pairs_[pair]->StartReceive(std::move(queue)));
  // A driver fills the receive queues of the pairs in use only. That they are filled already means
  // that this process follows one that died; the driver will not say again how many pairs it uses.
  if (pair >= attached_pairs_ && pairs_[pair]->has_buffers()) Attach(pair + 1);
  return {};
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
  done(index % 2 == 1 ? pairs_[pair]->StopTransmit() : pairs_[pair]->StopReceive());
}

void NetDevice::Reset() {
  features_ = 0;
  filter_ = RxFilter{.own = options_.mac};
  memcpy(config_.mac, options_.mac.data(), options_.mac.size());
  Attach(1);
}

void NetDevice::Attach(size_t pairs) {
  attached_pairs_ = pairs;
  for (size_t i = 0; i < pairs_.size(); ++i) pairs_[i]->SetAttached(i < pairs);
}

void NetDevice::SetOffloads(uint64_t offloads) {
  // One setting for the whole interface, made through any of its queues.
  pairs_[0]->port().SetOffloads(offloads);
}

Status NetDevice::HandleControl(const ControlRequest&) {
  return Fail(ErrorKind::kUnsupported, "not a message for a network interface");
}

Status NetDevice::HandleQuery(const ControlRequest& request, ControlReply& reply) {
  if (const auto* change = std::get_if<ChangeForward>(&request))
    return pairs_[0]->port().ChangeForward(change->add, change->forward);
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
                   .forwards = pairs_[0]->port().Forwards()};
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
    return true;
  }
  if (const auto* tables = std::get_if<SetMacTables>(&command)) {
    if (!Has(VIRTIO_NET_F_CTRL_RX)) return false;
    filter_.unicast = tables->unicast;
    filter_.multicast = tables->multicast;
    filter_.unicast_overflow = tables->unicast_overflow;
    filter_.multicast_overflow = tables->multicast_overflow;
    return true;
  }
  if (const auto* mac = std::get_if<SetMac>(&command)) {
    if (!Has(VIRTIO_NET_F_CTRL_MAC_ADDR)) return false;
    filter_.own = mac->mac;
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
  SetOffloads(offloads);
  return true;
}

}  // namespace crosvm::devices::net

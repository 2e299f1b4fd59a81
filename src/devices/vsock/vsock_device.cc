#include "devices/vsock/vsock_device.h"

#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "virtio/types.h"

namespace crosvm::devices::vsock {
namespace {

constexpr uint16_t kReceive = 0;
constexpr uint16_t kTransmit = 1;
constexpr uint16_t kEvent = 2;
constexpr uint16_t kQueueSize = 256;
// Packets of one turn, before other queues and sockets get theirs, and between two publications.
constexpr int kPacketsPerTurn = 256;
constexpr int kPacketsPerFlush = 16;

bool AtStart(const virtio::RingPosition& position) {
  const virtio::RingPosition start;
  return position.next_avail == start.next_avail && position.avail_wrap == start.avail_wrap &&
         position.next_used == start.next_used && position.used_wrap == start.used_wrap;
}

}  // namespace

VsockDevice::VsockDevice(event::EventLoop& loop, uint64_t cid, std::unique_ptr<Connector> connector)
    : loop_(loop),
      cid_(cid),
      connector_(std::move(connector)),
      streams_(loop, cid, *connector_, [this] { Receive(); }),
      self_(std::make_shared<VsockDevice*>(this)) {
  info_.device_id = VIRTIO_ID_VSOCK;
  info_.features = virtio::kQueueFeatures | virtio::FeatureBit(kFeatureStream);
  info_.queue_sizes.assign(std::size(queues_), kQueueSize);
  info_.config_size = sizeof(virtio_vsock_config);
}

VsockDevice::~VsockDevice() {
  // A device goes with its queues only when its process ends.
  if (event_buffer_) queues_[kEvent]->Undo(*std::exchange(event_buffer_, std::nullopt));
}

Result<std::unique_ptr<VsockDevice>> VsockDevice::Create(event::EventLoop& loop, uint64_t cid,
                                                         std::unique_ptr<Connector> connector,
                                                         sys::UniqueFd listener) {
  std::unique_ptr<VsockDevice> self(new VsockDevice(loop, cid, std::move(connector)));
  if (listener.valid()) {
    self->listener_ = TRY(HostListener::Create(
        loop, std::move(listener), [raw = self.get()](uint32_t port, sys::UniqueFd socket) {
          // Without a driver nobody can answer: the caller sees its connection closed.
          if (raw->queues_[kReceive] && raw->queues_[kTransmit]) {
            raw->streams_.ConnectToGuest(port, std::move(socket));
          }
        }));
  }
  return self;
}

void VsockDevice::ReadConfig(uint32_t offset, std::span<uint8_t> data) {
  CHECK(offset + data.size() <= sizeof(cid_));
  // SAFETY: eight bytes.
  memcpy(data.data(), reinterpret_cast<const uint8_t*>(&cid_) + offset, data.size());
}

void VsockDevice::WriteConfig(uint32_t, std::span<const uint8_t>) {
}

void VsockDevice::Configure(uint64_t) {
}

Status VsockDevice::StartQueue(uint16_t index, virtio::Queue queue) {
  CHECK(index < std::size(queues_));
  kicks_[index] = TRY(loop_.AddWatch(queue.kick().fd(), event::Interest::kRead,
                                     [this, index](event::Ready) { OnKick(index); }));
  if (fresh_ && (queue.recovery_pending() || !AtStart(queue.position()))) reset_due_ = true;
  queues_[index] = std::move(queue);
  if (queues_[kReceive] && queues_[kTransmit] && queues_[kEvent]) fresh_ = false;
  switch (index) {
    case kTransmit:
      Transmit();
      break;
    case kEvent:
      SendEvent();
      break;
    default:
      Receive();
      break;
  }
  if (reset_due_) SendEvent();
  return {};
}

void VsockDevice::StopQueue(uint16_t index, std::function<void(virtio::Queue)> done) {
  CHECK(index < std::size(queues_) && queues_[index]);
  kicks_[index].Reset();
  if (index == kEvent && event_buffer_) {
    queues_[index]->Undo(*std::exchange(event_buffer_, std::nullopt));
  }
  virtio::Queue queue = *std::exchange(queues_[index], std::nullopt);
  queue.Flush();
  done(std::move(queue));
}

void VsockDevice::Reset() {
  streams_.Reset();
  reset_due_ = false;
  fresh_ = true;
  transmit_waits_ = false;
}

void VsockDevice::OnKick(uint16_t index) {
  queues_[index]->kick().Drain();
  switch (index) {
    case kTransmit:
      Transmit();
      break;
    case kEvent:
      SendEvent();
      break;
    default:
      Receive();
      break;
  }
}

void VsockDevice::Transmit() {
  if (!queues_[kTransmit]) return;
  virtio::Queue& queue = *queues_[kTransmit];
  queue.SuppressNotifications();
  std::vector<memory::GuestSlice> payload;
  transmit_waits_ = false;
  bool more = true;
  for (int packets = 1; packets <= kPacketsPerTurn; ++packets) {
    if (streams_.congested()) {
      transmit_waits_ = true;
      break;
    }
    std::optional<virtio::Chain> chain = queue.Pop();
    more = chain.has_value();
    if (!more) break;
    virtio::SliceReader reader(chain->readable());
    if (const auto header = reader.Read<PacketHeader>()) {
      payload.clear();
      const bool complete = header->len <= reader.remaining() && reader.Take(header->len, payload);
      streams_.TakePacket(*header, payload, complete);
    }
    queue.Complete(std::move(*chain), 0);
    if (packets % kPacketsPerFlush == 0) queue.Flush();
  }
  queue.Flush();
  Receive();
  if (more && !transmit_waits_) Again(kTransmit);
}

void VsockDevice::Receive() {
  if (!queues_[kReceive]) return;
  virtio::Queue& queue = *queues_[kReceive];
  queue.SuppressNotifications();
  bool more = true;
  for (int packets = 1; more && packets <= kPacketsPerTurn; ++packets) {
    more = streams_.Produce(queue);
    if (packets % kPacketsPerFlush == 0) queue.Flush();
  }
  queue.Flush();
  if (more) Again(kReceive);
  if (transmit_waits_ && !streams_.congested()) Again(kTransmit);
}

void VsockDevice::SendEvent() {
  if (!queues_[kEvent]) return;
  virtio::Queue& queue = *queues_[kEvent];
  if (!event_buffer_) event_buffer_ = queue.Pop();
  if (!reset_due_ || !event_buffer_) return;
  reset_due_ = false;
  virtio_vsock_event event{};
  event.id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET;
  virtio::SliceWriter writer(event_buffer_->writable());
  const bool written = writer.Write(event);
  queue.Complete(*std::exchange(event_buffer_, std::nullopt), written ? sizeof(event) : 0);
  queue.Flush();
  event_buffer_ = queue.Pop();
}

void VsockDevice::Again(uint16_t queue) {
  if (std::exchange(posted_[queue], true)) return;
  loop_.Post([weak = std::weak_ptr(self_), queue] {
    const auto self = weak.lock();
    if (!self) return;
    (*self)->posted_[queue] = false;
    queue == kTransmit ? (*self)->Transmit() : (*self)->Receive();
  });
}

}  // namespace crosvm::devices::vsock

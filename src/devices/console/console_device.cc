#include "devices/console/console_device.h"

#include <cstring>

#include "base/check.h"
#include "virtio/types.h"

namespace crosvm::devices::console {
namespace {

constexpr uint16_t kQueueSize = 256;
constexpr uint16_t kControlReceiveQueue = 2;
constexpr uint16_t kControlTransmitQueue = 3;
// Messages that wait for the driver's buffers: enough for a full bring-up of all ports; a driver
// that provokes more without taking any loses the newest.
constexpr size_t kMaxPendingControl = kMaxPorts * 8;
// Control chains of one kind that one turn of the loop takes.
constexpr int kControlPerTurn = 256;

}  // namespace

ConsoleDevice::ConsoleDevice(event::EventLoop& loop, std::vector<std::unique_ptr<Port>> ports)
    : loop_(loop), ports_(std::move(ports)) {
  CHECK(!ports_.empty() && ports_.size() <= kMaxPorts);
  info_.device_id = VIRTIO_ID_CONSOLE;
  info_.features = virtio::kQueueFeatures | virtio::FeatureBit(VIRTIO_CONSOLE_F_SIZE) |
                   virtio::FeatureBit(VIRTIO_CONSOLE_F_EMERG_WRITE);
  size_t queues = 2;
  if (ports_.size() > 1) {
    info_.features |= virtio::FeatureBit(VIRTIO_CONSOLE_F_MULTIPORT);
    queues = 2 * (ports_.size() + 1);
  }
  info_.queue_sizes.assign(queues, kQueueSize);
  info_.config_size = sizeof(virtio_console_config);
  kicks_.resize(queues);
  config_.cols = ports_[0]->size.columns;
  config_.rows = ports_[0]->size.rows;
  config_.max_nr_ports = static_cast<uint32_t>(ports_.size());
}

ConsoleDevice::~ConsoleDevice() = default;

bool ConsoleDevice::multiport() const {
  return (features_ & virtio::FeatureBit(VIRTIO_CONSOLE_F_MULTIPORT)) != 0;
}

ConsoleDevice::QueueRole ConsoleDevice::RoleOf(uint16_t index) {
  using Kind = QueueRole::Kind;
  if (index == kControlReceiveQueue) return {Kind::kControlReceive, 0};
  if (index == kControlTransmitQueue) return {Kind::kControlTransmit, 0};
  const size_t port = index < kControlReceiveQueue ? 0 : index / 2 - 1U;
  return {index % 2 == 0 ? Kind::kReceive : Kind::kTransmit, port};
}

void ConsoleDevice::ReadConfig(uint32_t offset, std::span<uint8_t> data) {
  CHECK(offset + data.size() <= sizeof(config_));
  // SAFETY: a packed struct of little-endian integers.
  memcpy(data.data(), reinterpret_cast<const uint8_t*>(&config_) + offset, data.size());
}

void ConsoleDevice::WriteConfig(uint32_t offset, std::span<const uint8_t> data) {
  // VIRTIO_CONSOLE_F_EMERG_WRITE (virtio 1.2, 5.3.6.2): one character, before any queue works.
  if (offset == offsetof(virtio_console_config, emerg_wr) && !data.empty()) {
    ports_[0]->WriteEmergency(data[0]);
  }
}

void ConsoleDevice::Configure(uint64_t features) {
  features_ = features;
}

Status ConsoleDevice::StartQueue(uint16_t index, virtio::Queue queue) {
  CHECK(index < kicks_.size());
  kicks_[index] = TRY(loop_.AddWatch(queue.kick().fd(), event::Interest::kRead,
                                     [this, index](event::Ready) { OnKick(index); }));
  const QueueRole role = RoleOf(index);
  switch (role.kind) {
    case QueueRole::Kind::kReceive:
      ports_[role.port]->StartReceive(std::move(queue));
      break;
    case QueueRole::Kind::kTransmit:
      ports_[role.port]->StartTransmit(std::move(queue));
      break;
    case QueueRole::Kind::kControlReceive:
      control_receive_ = std::move(queue);
      FlushControl();
      break;
    case QueueRole::Kind::kControlTransmit:
      control_transmit_ = std::move(queue);
      ReceiveControl();
      break;
  }
  return {};
}

void ConsoleDevice::StopQueue(uint16_t index, std::function<void(virtio::Queue)> done) {
  CHECK(index < kicks_.size());
  kicks_[index].Reset();
  const QueueRole role = RoleOf(index);
  switch (role.kind) {
    case QueueRole::Kind::kReceive:
      done(ports_[role.port]->StopReceive());
      break;
    case QueueRole::Kind::kTransmit:
      done(ports_[role.port]->StopTransmit());
      break;
    case QueueRole::Kind::kControlReceive:
      done(*std::exchange(control_receive_, std::nullopt));
      break;
    case QueueRole::Kind::kControlTransmit:
      done(*std::exchange(control_transmit_, std::nullopt));
      break;
  }
}

void ConsoleDevice::Reset() {
  features_ = 0;
  control_pending_.clear();
}

Status ConsoleDevice::HandleControl(const ControlRequest& request) {
  const SetWindowSize* const size = std::get_if<SetWindowSize>(&request);
  if (size == nullptr) return Fail(ErrorKind::kUnsupported, "not a message for a console");
  if (size->port >= ports_.size()) {
    return Fail(ErrorKind::kInvalidArgument, "the console has no port {}", size->port);
  }
  ports_[size->port]->size = {size->columns, size->rows};
  if (size->port == 0) {
    config_.cols = size->columns;
    config_.rows = size->rows;
  }
  // With MULTIPORT the configuration's size means nothing (virtio 1.2, 5.3.4).
  if (multiport()) {
    SendResize(size->port);
    FlushControl();
  } else if (size->port == 0) {
    NotifyConfigChanged();
  }
  return {};
}

void ConsoleDevice::OnKick(uint16_t index) {
  const QueueRole role = RoleOf(index);
  switch (role.kind) {
    case QueueRole::Kind::kReceive:
      ports_[role.port]->OnReceiveKick();
      break;
    case QueueRole::Kind::kTransmit:
      ports_[role.port]->OnTransmitKick();
      break;
    case QueueRole::Kind::kControlReceive:
      control_receive_->kick().Drain();
      FlushControl();
      break;
    case QueueRole::Kind::kControlTransmit:
      control_transmit_->kick().Drain();
      ReceiveControl();
      break;
  }
}

void ConsoleDevice::ReceiveControl() {
  int turn = 0;
  for (; turn < kControlPerTurn; ++turn) {
    std::optional<virtio::Chain> chain = control_transmit_->Pop();
    if (!chain) break;
    virtio::SliceReader reader(chain->readable());
    const auto message = reader.Read<virtio_console_control>();
    control_transmit_->Complete(std::move(*chain), 0);
    if (message) HandleControlMessage(*message);
  }
  control_transmit_->Flush();
  FlushControl();
  if (turn == kControlPerTurn) ContinueLater();
}

void ConsoleDevice::ContinueLater() {
  control_again_ = loop_.AddTimer(event::Clock::duration::zero(), [this] {
    if (control_transmit_) ReceiveControl();
    FlushControl();
  });
}

void ConsoleDevice::HandleControlMessage(const virtio_console_control& message) {
  const uint32_t port = message.id;
  switch (message.event) {
    case VIRTIO_CONSOLE_DEVICE_READY:
      if (message.value != 1) return;
      for (uint32_t i = 0; i < ports_.size(); ++i) SendControl(i, VIRTIO_CONSOLE_PORT_ADD, 1);
      return;
    case VIRTIO_CONSOLE_PORT_READY:
      if (message.value != 1 || port >= ports_.size()) return;
      SendControl(port, VIRTIO_CONSOLE_CONSOLE_PORT, 1);
      SendControl(port, VIRTIO_CONSOLE_PORT_NAME, 1, ports_[port]->name());
      SendControl(port, VIRTIO_CONSOLE_PORT_OPEN, 1);
      SendResize(port);
      return;
    default:
      return;  // PORT_OPEN and others ask for nothing
  }
}

void ConsoleDevice::SendControl(uint32_t port, uint16_t event, uint16_t value,
                                std::string_view text) {
  if (control_pending_.size() >= kMaxPendingControl) return;
  const virtio_console_control message = {.id = port, .event = event, .value = value};
  std::vector<uint8_t> bytes(sizeof(message) + text.size());
  memcpy(bytes.data(), &message, sizeof(message));
  if (!text.empty()) memcpy(bytes.data() + sizeof(message), text.data(), text.size());
  control_pending_.push_back(std::move(bytes));
}

void ConsoleDevice::SendResize(uint32_t port) {
  const Port::WindowSize size = ports_[port]->size;
  if (size.columns == 0 || size.rows == 0) return;
  // struct virtio_console_resize (virtio 1.2, 5.3.6.2): cols, rows.
  std::string body(4, '\0');
  memcpy(body.data(), &size.columns, 2);
  memcpy(body.data() + 2, &size.rows, 2);
  SendControl(port, VIRTIO_CONSOLE_RESIZE, 0, body);
}

void ConsoleDevice::FlushControl() {
  if (!control_receive_) return;
  int turn = 0;
  for (; !control_pending_.empty() && turn < kControlPerTurn; ++turn) {
    std::optional<virtio::Chain> chain = control_receive_->Pop();
    if (!chain) break;
    virtio::SliceWriter writer(chain->writable());
    const bool fits = writer.Write(control_pending_.front());
    control_receive_->Complete(std::move(*chain), static_cast<uint32_t>(writer.written()));
    if (fits) control_pending_.pop_front();
  }
  control_receive_->Flush();
  // Only a driver with buffers that are too small gets here with messages left.
  if (turn == kControlPerTurn) ContinueLater();
}

}  // namespace crosvm::devices::console

// The life of a device behind PciTransport: what the registers ask for, done to the backend.
#include <linux/virtio_pci.h>

#include <utility>

#include "base/log.h"
#include "virtio/pci_transport.h"

namespace crosvm::virtio {

namespace {

using Kind = CommonConfigAction::Kind;

struct RingLengths {
  uint64_t descriptors;
  uint64_t driver;
  uint64_t device;
};

// virtio 1.2, 2.7 and 2.8.10. EVENT_IDX adds a word to both split areas, whose driver always
// allocates it.
RingLengths LengthsOf(uint16_t size, bool packed) {
  const uint64_t entries = size;
  if (packed) return {.descriptors = 16 * entries, .driver = 4, .device = 4};
  return {.descriptors = 16 * entries, .driver = 6 + 2 * entries, .device = 6 + 8 * entries};
}

}  // namespace

void PciTransport::Perform(const CommonConfigAction& action) {
  switch (action.kind) {
    case Kind::kNone:
      break;
    case Kind::kCheckFeatures: {
      const Status status = backend_->CheckFeatures(common_.driver_features());
      if (status.has_value()) {
        common_.AcceptFeatures();
      } else {
        LOG_DEBUG("{}: features {:#x} refused: {}", name(), common_.driver_features(),
                  status.error().ToString());
        if (MeansLost(status.error())) OnBackendError(status.error().Clone());
      }
      break;
    }
    case Kind::kDriverOk:
      Start();
      break;
    case Kind::kReset:
      Reset();
      break;
    case Kind::kEnableQueue:
      EnableQueue(action.queue);
      break;
    case Kind::kResetQueue:
      ResetQueue(action.queue);
      break;
    case Kind::kConfigVector:
      common_.SetConfigVector(interrupts_->SetVector(config_source(), action.value));
      break;
    case Kind::kQueueVector:
      common_.SetQueueVector(action.queue, interrupts_->SetVector(action.queue, action.value));
      break;
  }
}

void PciTransport::Start() {
  running_.store(true);
  UpdateIoEvents();
  if (paused_) return;
  Status status = Activate();
  if (!status.has_value()) OnBackendError(std::move(status).error());
}

void PciTransport::Reset() {
  // Order: no more doorbells, then the device stops, then its interrupts are forgotten.
  running_.store(false);
  UpdateIoEvents();
  if (std::exchange(active_, false)) {
    suspended_ = false;
    // Blocks the vCPU until the device is idle, at most for the backend's timeout (4.1.4.3.1: the
    // driver waits for the status to read 0).
    Status stopped = backend_->Deactivate();
    if (!stopped.has_value()) {
      OnBackendError(std::move(stopped).error());
      reset_due_ = AwaitsEnd();
      if (reset_due_) return;
    }
  }
  FinishReset();
}

// What does not answer may still write into the guest's memory, which is the driver's again when
// the reset is done: its process has to end first.
bool PciTransport::AwaitsEnd() const {
  return backend_gone_.load() && !given_up_ && failed_ != nullptr;
}

void PciTransport::FinishResets() {
  if (reset_due_) FinishReset();
  for (size_t i = 0; i < kicks_.size(); ++i) {
    if (common_.queues()[i].resetting) FinishQueueReset(static_cast<uint16_t>(i));
  }
}

void PciTransport::FinishReset() {
  reset_due_ = false;
  // vhost-user: "mappings are automatically unmapped by the front-end across device reset".
  if (shared_memory_ != nullptr) shared_memory_->Clear();
  interrupts_->Reset();
  for (const sys::EventFd& kick : kicks_) kick.Drain();
  positions_.assign(positions_.size(), RingPosition{});
  needs_reset_.store(false);
  common_.FinishReset();
}

void PciTransport::EnableQueue(uint16_t index) {
  UpdateIoEvents();
  if (!active_ || suspended_) return;
  const Result<QueueActivation> activation = MakeActivation(index);
  Status status = activation.has_value() ? backend_->StartQueue(*activation)
                                         : Status(std::unexpected(activation.error().Clone()));
  if (status.has_value()) return;
  if (!MeansLost(status.error())) {
    common_.RefuseQueue(index);
    UpdateIoEvents();
  }
  OnBackendError(std::move(status).error());
}

void PciTransport::ResetQueue(uint16_t index) {
  SetIoEvent(index, std::nullopt);
  if (active_ && !suspended_) {
    Result<RingPosition> stopped = backend_->StopQueue(index);
    if (!stopped.has_value()) OnBackendError(std::move(stopped).error());
  }
  if (active_ && AwaitsEnd()) return;
  FinishQueueReset(index);
}

void PciTransport::FinishQueueReset(uint16_t index) {
  interrupts_->SetVector(index, pci::kNoVector);
  kicks_[index].Drain();
  positions_[index] = {};
  common_.FinishQueueReset(index);
}

Result<QueueActivation> PciTransport::MakeActivation(uint16_t index) {
  const QueueRegisters& queue = common_.queues()[index];
  const bool packed = (common_.driver_features() & FeatureBit(VIRTIO_F_RING_PACKED)) != 0;
  const RingLengths lengths = LengthsOf(queue.size, packed);
  const RingAddresses& at = queue.addresses;
  // TRUST: the addresses are the driver's; the backend checks again against its own map.
  if (!memory_.Slice(at.descriptors, lengths.descriptors) ||
      !memory_.Slice(at.driver, lengths.driver) || !memory_.Slice(at.device, lengths.device)) {
    return Fail(ErrorKind::kInvalidArgument, "queue {} does not lie in memory", index);
  }
  return QueueActivation{.index = index,
                         .size = queue.size,
                         .addresses = at,
                         .position = positions_[index],
                         .kick = &kicks_[index],
                         .call = &interrupts_->call(index)};
}

Status PciTransport::Activate() {
  if (backend_gone_.load()) return Fail(ErrorKind::kDisconnected, "the device is gone");
  std::vector<QueueActivation> activations;
  for (size_t i = 0; i < kicks_.size(); ++i) {
    if (!common_.queues()[i].enabled) continue;
    activations.push_back(TRY(MakeActivation(static_cast<uint16_t>(i))));
  }
  Status status = backend_->Activate(memory_, common_.driver_features(), activations);
  if (status.has_value() || MeansLost(status.error())) {
    active_ = true;
    suspended_ = false;
  }
  return status;
}

Status PciTransport::Pause() {
  MutexLock lock(mutex_);
  if (paused_) return {};
  paused_ = true;
  if (!active_ || suspended_) return {};
  suspended_ = true;
  Result<std::vector<RingPosition>> drained = backend_->Suspend();
  if (!drained.has_value()) {
    OnBackendError(drained.error().Clone());
    return std::unexpected(std::move(drained).error());
  }
  for (size_t i = 0; i < positions_.size(); ++i) {
    positions_[i] = i < drained->size() ? (*drained)[i] : RingPosition{};
  }
  return {};
}

void PciTransport::Unpause() {
  MutexLock lock(mutex_);
  if (!paused_) return;
  paused_ = false;
  if (!running_.load() || needs_reset_.load()) return;
  Status status = Activate();
  if (status.has_value()) {
    SignalAllQueues();
  } else {
    OnBackendError(std::move(status).error());
  }
}

Status PciTransport::Reattached() {
  MutexLock lock(mutex_);
  backend_gone_.store(false);
  FinishResets();
  if (!running_.load() || paused_ || needs_reset_.load()) return {};
  // A backend that had the queues has them again, with its in-flight records, unless they are
  // suspended.
  if (!active_ || suspended_) {
    Status status = Activate();
    if (!status.has_value()) {
      if (MeansLost(status.error())) return status;
      // What the driver has set up meanwhile; a reset mends that.
      OnBackendError(std::move(status).error());
      return {};
    }
  }
  SignalAllQueues();
  return {};
}

void PciTransport::GiveUp() {
  MutexLock lock(mutex_);
  backend_gone_.store(true);
  given_up_ = true;
  const bool due = reset_due_;
  FinishResets();
  if (!due) MarkNeedsReset();
}

void PciTransport::SignalAllQueues() {
  for (size_t i = 0; i < kicks_.size(); ++i) {
    if (!common_.queues()[i].enabled) continue;
    // The predecessor may have taken a kick without acting on it, and published without
    // interrupting.
    kicks_[i].Signal();
    interrupts_->call(i).Signal();
  }
}

void PciTransport::UpdateIoEvents() {
  const bool wanted = running_.load() && bar_base_.has_value();
  for (size_t i = 0; i < io_events_.size(); ++i) {
    std::optional<uint64_t> address;
    const QueueRegisters& queue = common_.queues()[i];
    if (wanted && queue.enabled && !queue.resetting) {
      address = *bar_base_ + kNotifyOffset + kNotifyMultiplier * i;
    }
    SetIoEvent(static_cast<uint16_t>(i), address);
  }
}

void PciTransport::SetIoEvent(uint16_t index, std::optional<uint64_t> address) {
  std::optional<uint64_t>& current = io_events_[index];
  if (current == address) return;
  if (current) {
    const Status status = vm_.RemoveIoEvent({.address = *current}, kicks_[index]);
    if (!status.has_value()) {
      LOG_WARN_EVERY(std::chrono::seconds(1), "{}: queue {}: {}", name(), index,
                     status.error().ToString());
    }
    current.reset();
  }
  if (!address) return;
  const Status status = vm_.AddIoEvent({.address = *address}, kicks_[index]);
  if (!status.has_value()) {
    // Notifications then take the way through user space.
    LOG_WARN_EVERY(std::chrono::seconds(1), "{}: queue {}: {}", name(), index,
                   status.error().ToString());
    return;
  }
  current = address;
}

void PciTransport::OnBackendError(Error error) {
  if (MeansLost(error)) {
    OnBackendFailed(std::move(error));
    return;
  }
  // The device lives but cannot work with what the driver has set up.
  LOG_WARN_EVERY(std::chrono::seconds(1), "{}: {}", name(), error.ToString());
  MarkNeedsReset();
}

void PciTransport::OnBackendFailed(Error error) {
  if (backend_gone_.exchange(true)) return;
  if (failed_) {
    failed_(std::move(error));
  } else {
    LOG_WARN("{}: {}", name(), error.ToString());
    MarkNeedsReset();
  }
}

void PciTransport::MarkNeedsReset() {
  needs_reset_.store(true);
  SignalConfig();
}

void PciTransport::OnConfigChanged() {
  generation_.fetch_add(1);
  SignalConfig();
}

void PciTransport::SignalConfig() {
  // 2.1.2, 3.1: nothing is sent to a driver that is not there yet.
  if (running_.load()) interrupts_->call(config_source()).Signal();
}

}  // namespace crosvm::virtio

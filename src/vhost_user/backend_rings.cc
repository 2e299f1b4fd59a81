// The rings of a BackendServer: the memory of what is in flight, starting and stopping.
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "sys/file.h"
#include "sys/memfd.h"
#include "vhost_user/backend_server.h"
#include "virtio/types.h"

namespace crosvm::vhost_user {

Status BackendServer::GetInflightFd(const Message& message) {
  TRY(RequireProtocol(message, kProtocolInflightShmfd));
  const Inflight wanted = TRY(message.As<Inflight>());
  if (!features_)
    return Fail(ErrorKind::kProtocol, "the ring format is not known before SET_FEATURES");
  if (wanted.queues.value() == 0 || wanted.queues > vrings_.size() ||
      wanted.queue_size.value() == 0 || wanted.queue_size > virtio::kMaxQueueSize) {
    return Fail(ErrorKind::kProtocol, "{} queues of {}", wanted.queues.value(),
                wanted.queue_size.value());
  }
  const uint64_t size =
      virtio::InflightQueue::BytesPerQueue(wanted.queue_size, packed()) * wanted.queues;
  const sys::UniqueFd fd = TRY(sys::CreateSealedMemfd("vhost_inflight", size));
  Inflight answer = wanted;
  answer.mmap_size = size;
  answer.mmap_offset = 0;
  const sys::BorrowedFd fds[] = {fd};
  return Reply(message, BytesOf(answer), fds);
}

Status BackendServer::SetInflightFd(Message& message) {
  TRY(RequireProtocol(message, kProtocolInflightShmfd));
  if (message.payload.size() < kInflightWithoutPadding ||
      message.payload.size() > sizeof(Inflight) || message.fds.size() != 1) {
    return Fail(ErrorKind::kProtocol, "{} bytes with {} descriptors", message.payload.size(),
                message.fds.size());
  }
  message.payload.resize(sizeof(Inflight));
  const Inflight given = TRY(message.As<Inflight>());
  if (!features_)
    return Fail(ErrorKind::kProtocol, "the ring format is not known before SET_FEATURES");
  for (const Vring& vring : vrings_) {
    if (vring.state != RingState::kStopped) return Fail(ErrorKind::kProtocol, "a ring is running");
  }
  const uint64_t needed =
      virtio::InflightQueue::BytesPerQueue(given.queue_size, packed()) * given.queues;
  if (given.queues.value() == 0 || given.queues > vrings_.size() || given.queue_size.value() == 0 ||
      given.queue_size > virtio::kMaxQueueSize || given.mmap_size < needed ||
      !IsAligned<uint64_t>(given.mmap_offset, 4096)) {
    return Fail(ErrorKind::kProtocol, "{} queues of {} in {} bytes at {:#x}", given.queues.value(),
                given.queue_size.value(), given.mmap_size.value(), given.mmap_offset.value());
  }
  const sys::UniqueFd& fd = message.fds[0];
  const uint64_t file_size = TRY(sys::FileSize(fd));
  if (!RangeFits<uint64_t>(given.mmap_offset, needed, file_size)) {
    return Fail(ErrorKind::kProtocol, "the descriptor has {} bytes only", file_size);
  }
  if (options_.require_seals && !sys::IsShrinkSealed(fd, given.mmap_offset + needed)) {
    return Fail(ErrorKind::kProtocol, "the memory is not sealed against shrinking");
  }
  sys::MappedRegion region =
      TRY(sys::MappedRegion::Shared(fd, given.mmap_offset, needed, sys::MapAccess::kReadWrite));
  inflight_ = std::make_shared<sys::MappedRegion>(std::move(region));
  inflight_queues_ = given.queues;
  inflight_queue_size_ = given.queue_size;
  for (Vring& vring : vrings_) vring.recovery_pending = true;
  return {};
}

Result<std::unique_ptr<virtio::InflightQueue>> BackendServer::MakeInflight(uint16_t index) {
  if (!inflight_ || index >= inflight_queues_) return nullptr;
  if (vrings_[index].size > inflight_queue_size_) {
    return Fail(ErrorKind::kProtocol, "ring {} of {} has in-flight records for {}", index,
                vrings_[index].size, inflight_queue_size_);
  }
  const uint64_t stride = virtio::InflightQueue::BytesPerQueue(inflight_queue_size_, packed());
  return virtio::InflightQueue::Create(inflight_, stride * index, inflight_queue_size_, packed());
}

void BackendServer::ForgetInflight(uint16_t index) {
  if (vrings_[index].recovery_pending) return;
  Result<std::unique_ptr<virtio::InflightQueue>> records = MakeInflight(index);
  if (records && *records) (*records)->Clear();
}

Status BackendServer::MaybeStart(uint16_t index) {
  Vring& vring = vrings_[index];
  if (closing_ || !features_ || vring.state != RingState::kStopped || !vring.started) return {};
  // Without the protocol bit there is no VRING_ENABLE: rings work from the start.
  if (!vring.enabled && (*features_ & kFeatureProtocol) != 0) return {};
  if (vring.size == 0 || !vring.addresses || memory_.regions().empty()) {
    return Fail(ErrorKind::kProtocol, "ring {} is started before it is set up", index);
  }
  const auto start = [&]() -> Status {
    const std::optional<memory::GuestAddr> descriptors = FromUser(vring.addresses->descriptor);
    const std::optional<memory::GuestAddr> driver = FromUser(vring.addresses->available);
    const std::optional<memory::GuestAddr> device = FromUser(vring.addresses->used);
    if (!descriptors || !driver || !device) {
      return Fail(ErrorKind::kInvalidArgument, "a ring address is outside the memory table");
    }
    const virtio::QueueConfig config{
        .size = vring.size,
        .addresses = {.descriptors = *descriptors, .driver = *driver, .device = *device},
        .features = *features_ & ~kFeatureProtocol,
        .position = virtio::RingPosition::FromVringBase(vring.base, packed())};
    std::unique_ptr<virtio::InflightQueue> inflight = TRY(MakeInflight(index));
    sys::EventFd kick = TRY(vring.kick.Dup());
    // A front-end that gives none now may give one later, in this one's place.
    sys::EventFd call = TRY(vring.call.valid() ? vring.call.Dup() : sys::EventFd::Create());
    virtio::Queue queue = TRY(virtio::Queue::Create(memory_, config, std::move(kick),
                                                    std::move(call), std::move(inflight)));
    if (vring.error.valid()) {
      sys::EventFd error = TRY(vring.error.Dup());
      queue.SetErrorEvent(std::move(error));
    }
    if (!std::exchange(configured_, true)) device_.Configure(config.features);
    vring.running_call = queue.call_handle();
    vring.state = RingState::kRunning;
    Status started = device_.StartQueue(index, std::move(queue));
    if (!started) vring.state = RingState::kStopped;
    return started;
  };
  Status status = start();
  if (!status) {
    LOG_WARN_EVERY(std::chrono::seconds(1), "ring {} does not start: {}", index,
                   status.error().ToString());
    if (vring.error.valid()) vring.error.Signal();
  }
  return status;
}

void BackendServer::Stop(uint16_t index, std::function<void()> then) {
  Vring& vring = vrings_[index];
  if (vring.state == RingState::kStopped) return then();
  Pause();
  vring.when_stopped.push_back([this, then = std::move(then)] {
    then();
    Resume();
  });
  if (std::exchange(vring.state, RingState::kStopping) == RingState::kStopping) return;
  device_.StopQueue(index, [weak = std::weak_ptr(self_), index](virtio::Queue queue) {
    if (const auto self = weak.lock()) (*self)->OnStopped(index, std::move(queue));
  });
}

void BackendServer::OnStopped(uint16_t index, virtio::Queue queue) {
  Vring& vring = vrings_[index];
  CHECK(vring.state == RingState::kStopping, "queue {} was given back twice", index);
  vring.state = RingState::kStopped;
  vring.base = queue.position().ToVringBase(packed());
  vring.recovery_pending = queue.recovery_pending();
  vring.running_call = nullptr;
  for (const auto& then : std::exchange(vring.when_stopped, {})) then();
}

void BackendServer::StopAll(std::function<void()> then) {
  // Counts itself, so that `then` runs once, after the last.
  auto left = std::make_shared<size_t>(vrings_.size() + 1);
  auto done = std::make_shared<std::function<void()>>(std::move(then));
  const auto one = [left, done] {
    if (--*left == 0) (*done)();
  };
  Pause();
  for (uint16_t i = 0; i < vrings_.size(); ++i) Stop(i, one);
  one();
  Resume();
}

}  // namespace crosvm::vhost_user

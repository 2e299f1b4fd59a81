#include "vhost_user/frontend.h"

#include <linux/virtio_config.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "base/checked_math.h"
#include "base/log.h"
#include "sys/file.h"
#include "sys/mapped_region.h"
#include "sys/memfd.h"
#include "virtio/inflight.h"
#include "virtio/types.h"

namespace crosvm::vhost_user {
namespace {

using virtio::FeatureBit;

constexpr uint64_t kWantedProtocol = kProtocolMq | kProtocolReplyAck | kProtocolBackendReq |
                                     kProtocolConfig | kProtocolInflightShmfd |
                                     kProtocolResetDevice | kProtocolStatus;
constexpr unsigned kFeatureLogAll = 26;  // VHOST_F_LOG_ALL, of vhost and not of virtio
// What a back-end may offer but must not be offered to a guest through us.
constexpr uint64_t kHiddenFeatures =
    kFeatureProtocol | FeatureBit(kFeatureLogAll) | FeatureBit(VIRTIO_F_ACCESS_PLATFORM);
constexpr uint8_t kRunningStatus = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
                                   VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;

}  // namespace

// Marks a call, so that the loop leaves the socket to it; afterwards the loop looks again. Sets the
// call's deadline.
class Frontend::CallScope {
 public:
  CallScope(Frontend& frontend, std::chrono::milliseconds timeout) CROSVM_REQUIRES(frontend.mutex_)
      : frontend_(frontend) {
    frontend.timeout_ = timeout;
    frontend.deadline_ = std::chrono::steady_clock::now() + timeout;
    MutexLock lock(frontend_.state_mutex_);
    ++frontend_.calls_;
  }
  ~CallScope() {
    {
      MutexLock lock(frontend_.state_mutex_);
      --frontend_.calls_;
      if (!std::exchange(frontend_.silenced_, false)) return;
    }
    frontend_.loop_.Post([weak = std::weak_ptr(frontend_.self_)] {
      const auto self = weak.lock();
      if (self && (*self)->socket_watch_.active()) {
        (*self)->socket_watch_.SetInterest(event::Interest::kRead);
      }
    });
  }

 private:
  Frontend& frontend_;
};

Frontend::Frontend(event::EventLoop& loop, FrontendOptions options)
    : loop_(loop), options_(std::move(options)), self_(std::make_shared<Frontend*>(this)) {
}

Frontend::~Frontend() {
  // Before the descriptors that they watch.
  socket_watch_.Reset();
  backend_watch_.Reset();
}

Result<std::unique_ptr<Frontend>> Frontend::Connect(event::EventLoop& loop, sys::UnixSocket socket,
                                                    FrontendOptions options) {
  if (options.info.queue_sizes.size() > kMaxQueues) {
    return Fail(ErrorKind::kInvalidArgument, "{} queues, vhost-user knows {}",
                options.info.queue_sizes.size(), kMaxQueues);
  }
  std::unique_ptr<Frontend> frontend(new Frontend(loop, std::move(options)));
  MutexLock lock(frontend->mutex_);
  TRY_CONTEXT(frontend->Attach(std::move(socket)), "connecting to the device process of {}",
              frontend->options_.name);
  return frontend;
}

Status Frontend::Attach(sys::UnixSocket socket) {
  CallScope call(*this, options_.handshake_timeout);
  socket_watch_.Reset();
  backend_watch_.Reset();
  generation_.fetch_add(1);
  {
    // What a predecessor has left in it counts no more.
    MutexLock lock(channel_mutex_);
    channel_open_ = false;
    backend_channel_ = sys::UnixSocket();
  }
  socket_ = std::move(socket);
  reader_ = MessageReader();
  TRY(sys::SetNonBlocking(socket_.fd(), true));
  broken_ = false;
  Status shaken = Handshake();
  if (!shaken) {
    broken_ = true;
    return shaken;
  }
  known_ = true;
  socket_watch_ = TRY(loop_.AddWatch(socket_.fd(), event::Interest::kRead,
                                     [this](event::Ready) { OnSocketReady(); }));
  return {};
}

Status Frontend::Handshake() {
  backend_features_ = TRY(GetU64(Request::kGetFeatures));
  protocol_features_ = 0;
  if ((backend_features_ & kFeatureProtocol) != 0) {
    const uint64_t offered = TRY(GetU64(Request::kGetProtocolFeatures));
    uint64_t chosen = offered & kWantedProtocol;
    // A mapping is made before the guest hears of it: the back-end has to wait for the answer, on
    // its own channel.
    constexpr uint64_t kMapping = kProtocolShmem | kProtocolReplyAck | kProtocolBackendReq;
    if (options_.max_shared_memory > 0 && (offered & kMapping) == kMapping)
      chosen |= kProtocolShmem;
    TRY(Set(Request::kSetProtocolFeatures, BytesOf(U64{chosen})));
    protocol_features_ = chosen;
  }
  TRY(Set(Request::kSetOwner, {}));
  uint64_t queues = options_.info.queue_sizes.size();
  if (Has(kProtocolMq)) queues = TRY(GetU64(Request::kGetQueueNum));
  if (options_.queue_count != nullptr) queues = options_.queue_count(backend_features_, queues);
  offered_ = backend_features_ & ~kHiddenFeatures;
  if (options_.fitting != nullptr) offered_ = options_.fitting(offered_);
  if (!known_) {
    if (Has(kProtocolConfig)) options_.local_config.clear();
    std::vector<uint16_t>& sizes = options_.info.queue_sizes;
    if (queues < sizes.size()) sizes.resize(queues);
    options_.info.features = offered_;
  } else if (queues < options_.info.queue_sizes.size()) {
    // The guest may know of them, running or not.
    return Fail(ErrorKind::kUnsupported, "the new device process has fewer queues");
  }
  if (active_ && (features_ & ~offered_) != 0) {
    return Fail(ErrorKind::kUnsupported, "the new device process lacks features {:#x}",
                features_ & ~offered_);
  }
  TRY(LearnSharedMemory());
  if (Has(kProtocolBackendReq)) TRY(OpenBackendChannel());
  return {};
}

bool Frontend::packed() const {
  return (features_ & FeatureBit(VIRTIO_F_RING_PACKED)) != 0;
}

Status Frontend::CheckAlive() const {
  if (!broken_) return {};
  return Fail(ErrorKind::kDisconnected, "the device process of {} is gone", options_.name);
}

Error Frontend::AsLost(Error why) const {
  if (!broken_ || why.kind() == ErrorKind::kTimedOut || why.kind() == ErrorKind::kDisconnected) {
    return why;
  }
  return MakeError(ErrorKind::kDisconnected, "{}", why.ToString());
}

Error Frontend::Break(Error why) {
  if (std::exchange(broken_, true)) return why;
  // A back-end that still works takes this for the end: it has to leave the guest's memory alone.
  // The descriptor stays, for the loop watches it.
  (void)shutdown(socket_.fd().get(), SHUT_RDWR);
  PostFailed(why.Clone());
  return why;
}

void Frontend::PostFailed(Error why) {
  auto shared = std::make_shared<Error>(std::move(why));
  loop_.Post([weak = std::weak_ptr(self_), shared, generation = generation_.load()] {
    const auto self = weak.lock();
    if (!self) return;
    Frontend& frontend = **self;
    if (frontend.generation_.load() != generation) return;
    frontend.socket_watch_.Reset();
    frontend.backend_watch_.Reset();
    std::function<void(Error)> failed;
    {
      MutexLock lock(frontend.state_mutex_);
      failed = frontend.events_.failed;
    }
    if (failed) failed(std::move(*shared));
  });
}

void Frontend::SetEvents(virtio::BackendEvents events) {
  MutexLock lock(state_mutex_);
  events_ = std::move(events);
}

Status Frontend::ReadConfig(uint32_t offset, std::span<uint8_t> data) {
  if (!options_.local_config.empty()) {
    if (!RangeFits<size_t>(offset, data.size(), options_.local_config.size())) {
      return Fail(ErrorKind::kInvalidArgument, "{} bytes at {} of the configuration", data.size(),
                  offset);
    }
    std::copy_n(options_.local_config.begin() + offset, data.size(), data.begin());
    return {};
  }
  if (!RangeFits<size_t>(offset, data.size(), kMaxConfigSize)) {
    return Fail(ErrorKind::kInvalidArgument, "{} bytes at {} of the configuration", data.size(),
                offset);
  }
  MutexLock lock(mutex_);
  CallScope call(*this, options_.reply_timeout);
  TRY(CheckAlive());
  if (!Has(kProtocolConfig))
    return Fail(ErrorKind::kUnsupported, "{} has no configuration", options_.name);
  // From the start on: back-ends made with QEMU's library (its storage daemon for one) answer with
  // the first bytes whatever the offset is, for QEMU never asks for others.
  const uint32_t end = offset + static_cast<uint32_t>(data.size());
  const ConfigHeader header{.offset = 0u, .size = end, .flags = 0u};
  std::vector<uint8_t> payload(sizeof(header) + end);
  std::memcpy(payload.data(), &header, sizeof(header));
  const Result<Message> reply = Get(Request::kGetConfig, payload);
  if (!reply.has_value()) return std::unexpected(AsLost(reply.error().Clone()));
  const Result<ConfigHeader> answered = reply->Front<ConfigHeader>();
  // An empty answer is how a back-end says no.
  if (reply->payload.empty())
    return Fail(ErrorKind::kProtocol, "{} refuses GET_CONFIG", options_.name);
  if (!answered || reply->payload.size() != payload.size() || !reply->fds.empty()) {
    return std::unexpected(
        AsLost(Break(MakeError(ErrorKind::kProtocol, "bad answer to GET_CONFIG"))));
  }
  std::copy_n(reply->payload.begin() + sizeof(header) + offset, data.size(), data.begin());
  return {};
}

Status Frontend::WriteConfig(uint32_t offset, std::span<const uint8_t> data) {
  if (!RangeFits<size_t>(offset, data.size(), kMaxConfigSize)) {
    return Fail(ErrorKind::kInvalidArgument, "{} bytes at {} of the configuration", data.size(),
                offset);
  }
  MutexLock lock(mutex_);
  CallScope call(*this, options_.reply_timeout);
  TRY(CheckAlive());
  if (!Has(kProtocolConfig))
    return Fail(ErrorKind::kUnsupported, "{} has no configuration", options_.name);
  const ConfigHeader header{
      .offset = offset, .size = static_cast<uint32_t>(data.size()), .flags = 0u};
  std::vector<uint8_t> payload(sizeof(header) + data.size());
  std::memcpy(payload.data(), &header, sizeof(header));
  std::copy(data.begin(), data.end(), payload.begin() + sizeof(header));
  Status written = Set(Request::kSetConfig, payload);
  if (!written.has_value()) return std::unexpected(AsLost(std::move(written).error()));
  return {};
}

Status Frontend::CheckFeatures(uint64_t features) {
  MutexLock lock(mutex_);
  TRY(CheckAlive());
  if ((features & ~offered_) == 0) return {};
  return Fail(ErrorKind::kUnsupported, "{} does not offer features {:#x}", options_.name,
              features & ~offered_);
}

Result<Frontend::Ring> Frontend::MakeRing(const virtio::QueueActivation& queue) const {
  if (queue.index >= options_.info.queue_sizes.size()) {
    return Fail(ErrorKind::kInvalidArgument, "{} has no queue {}", options_.name, queue.index);
  }
  Ring ring{.index = queue.index,
            .size = queue.size,
            .addresses = queue.addresses,
            .position = queue.position,
            .kick = {},
            .call = {}};
  ring.kick = TRY(queue.kick->Dup());
  ring.call = TRY(queue.call->Dup());
  return ring;
}

Status Frontend::Activate(const memory::GuestMemory& memory, uint64_t features,
                          std::span<const virtio::QueueActivation> queues) {
  std::vector<Ring> rings;
  for (const virtio::QueueActivation& queue : queues) {
    Ring ring = TRY(MakeRing(queue));
    rings.push_back(std::move(ring));
  }
  MutexLock lock(mutex_);
  CallScope call(*this, options_.handshake_timeout);
  if (std::exchange(suspended_, false)) {
    // If the back-end died over it, only we and the records know where the queues stand.
    for (Ring& ring : rings) {
      const Ring* const kept = FindRing(ring.index);
      if (kept == nullptr) continue;
      ring.position = kept->position;
      ring.started = kept->started;
    }
  } else {
    inflight_fd_.Reset();
    taken_back_.clear();
  }
  memory_ = memory;
  features_ = features;
  rings_ = std::move(rings);
  active_ = true;
  Status done = broken_ ? CheckAlive() : SendSetup();
  if (done.has_value()) return done;
  if (!broken_) {
    // Refused, half-way maybe. What was started by then does not go on without its driver.
    Status stopped = StopDevice();
    if (stopped.has_value()) {
      Forget();
      return done;
    }
    done = std::unexpected(Break(std::move(stopped).error()));
  }
  return std::unexpected(AsLost(std::move(done).error()));
}

Frontend::Ring* Frontend::FindRing(uint16_t index) {
  const auto found =
      std::find_if(rings_.begin(), rings_.end(), [&](const Ring& r) { return r.index == index; });
  return found == rings_.end() ? nullptr : &*found;
}

void Frontend::Forget() {
  active_ = false;
  suspended_ = false;
  rings_.clear();
  inflight_fd_.Reset();
  taken_back_.clear();
  memory_ = memory::GuestMemory();
}

Status Frontend::SendSetup() {
  TRY(Set(Request::kSetFeatures, BytesOf(U64{features_ | (backend_features_ & kFeatureProtocol)})));
  if (Has(kProtocolInflightShmfd) && !inflight_fd_.valid()) TRY(GetInflight());
  if (Has(kProtocolInflightShmfd)) {
    TRY(ClearTakenBack());
    const sys::BorrowedFd fds[] = {inflight_fd_};
    TRY(Set(Request::kSetInflightFd, BytesOf(inflight_), fds));
  }
  TRY(SendMemory());
  for (Ring& ring : rings_) TRY(SendRing(ring));
  if (Has(kProtocolStatus)) TRY(SendStatus(kRunningStatus));
  return {};
}

Status Frontend::GetInflight() {
  uint16_t size = 1;
  for (const Ring& ring : rings_) size = std::max(size, ring.size);
  for (const uint16_t maximum : options_.info.queue_sizes) size = std::max(size, maximum);
  const Inflight wanted{.queues = static_cast<uint16_t>(options_.info.queue_sizes.size()),
                        .queue_size = size};
  Message reply = TRY(Get(Request::kGetInflightFd, BytesOf(wanted)));
  const Result<Inflight> answer = reply.As<Inflight>();
  // A back-end that has nothing to track answers with size 0.
  if (answer && answer->mmap_size.value() == 0 && reply.fds.empty()) {
    protocol_features_ &= ~uint64_t{kProtocolInflightShmfd};
    return {};
  }
  if (!answer || reply.fds.size() != 1) {
    return std::unexpected(Break(MakeError(ErrorKind::kProtocol, "bad answer to GET_INFLIGHT_FD")));
  }
  inflight_ = *answer;
  inflight_fd_ = std::move(reply.fds[0]);
  return {};
}

// A successor would go on with what the queue had in flight, in a ring that is another by now.
Status Frontend::ClearTakenBack() {
  if (taken_back_.empty()) return {};
  const uint64_t stride = virtio::InflightQueue::BytesPerQueue(inflight_.queue_size, packed());
  const uint64_t size = stride * inflight_.queues;
  const uint64_t offset = inflight_.mmap_offset;
  // TRUST: the file is the back-end's. One that shrinks would end us by SIGBUS.
  if (size == 0 || offset > INT64_MAX || !sys::IsShrinkSealed(inflight_fd_, offset + size)) {
    return Fail(ErrorKind::kUnsupported, "the in-flight records of {} are not sealed",
                options_.name);
  }
  const auto records = std::make_shared<sys::MappedRegion>(
      TRY(sys::MappedRegion::Shared(inflight_fd_, offset, size, sys::MapAccess::kReadWrite)));
  for (const uint16_t index : std::exchange(taken_back_, {})) {
    if (index >= inflight_.queues) continue;
    TRY(virtio::InflightQueue::Create(records, stride * index, inflight_.queue_size, packed()))
        ->Clear();
  }
  return {};
}

Status Frontend::SendMemory() {
  const std::span<const memory::RegionInfo> regions = memory_.regions();
  if (regions.size() > sys::kMaxFdsPerMessage) {
    return Fail(ErrorKind::kUnsupported, "{} memory regions, vhost-user takes {}", regions.size(),
                sys::kMaxFdsPerMessage);
  }
  const MemoryHeader header{.count = static_cast<uint32_t>(regions.size()), .padding = 0u};
  std::vector<uint8_t> payload(BytesOf(header).begin(), BytesOf(header).end());
  std::vector<sys::BorrowedFd> fds;
  for (const memory::RegionInfo& info : regions) {
    const MemoryRegion region{.guest_address = info.start.value(),
                              .size = info.size,
                              .user_address = info.start.value(),
                              .mmap_offset = info.fd_offset};
    payload.insert(payload.end(), BytesOf(region).begin(), BytesOf(region).end());
    fds.push_back(info.fd);
  }
  return Set(Request::kSetMemTable, payload, fds);
}

Status Frontend::SendRing(Ring& ring) {
  const uint32_t index = ring.index;
  TRY(Set(Request::kSetVringNum, BytesOf(VringState{index, uint32_t{ring.size}})));
  TRY(Set(Request::kSetVringBase, BytesOf(VringState{index, ring.position.ToVringBase(packed())})));
  TRY(Set(Request::kSetVringAddr,
          BytesOf(VringAddr{.index = index,
                            .flags = 0u,
                            .descriptor = ring.addresses.descriptors.value(),
                            .used = ring.addresses.device.value(),
                            .available = ring.addresses.driver.value(),
                            .log = uint64_t{0}})));
  // The call first: some back-ends start at the kick.
  const sys::BorrowedFd call[] = {ring.call.fd()};
  TRY(Set(Request::kSetVringCall, BytesOf(U64{uint64_t{index}}), call));
  ring.started = true;
  const sys::BorrowedFd kick[] = {ring.kick.fd()};
  TRY(Set(Request::kSetVringKick, BytesOf(U64{uint64_t{index}}), kick));
  if ((backend_features_ & kFeatureProtocol) == 0) return {};
  return Set(Request::kSetVringEnable, BytesOf(VringState{index, 1u}));
}

Status Frontend::SendStatus(uint8_t status) {
  return Set(Request::kSetStatus, BytesOf(U64{uint64_t{status}}));
}

Status Frontend::StartQueue(const virtio::QueueActivation& queue) {
  Ring ring = TRY(MakeRing(queue));
  MutexLock lock(mutex_);
  CallScope call(*this, options_.reply_timeout);
  if (!active_) return Fail(ErrorKind::kInvalidArgument, "{} is not active", options_.name);
  std::erase_if(rings_, [&](const Ring& other) { return other.index == queue.index; });
  Ring& kept = rings_.emplace_back(std::move(ring));
  Status started = broken_ ? CheckAlive() : SendRing(kept);
  if (started.has_value()) return {};
  if (!broken_) {
    // Refused, maybe after it was started.
    Status stopped = kept.started ? FetchPosition(kept) : Status();
    if (stopped.has_value()) {
      rings_.pop_back();
      return started;
    }
    started = std::unexpected(Break(std::move(stopped).error()));
  }
  return std::unexpected(AsLost(std::move(started).error()));
}

Status Frontend::FetchPosition(Ring& ring) {
  const uint32_t index = ring.index;
  const Message reply = TRY(Get(Request::kGetVringBase, BytesOf(VringState{index, 0u})));
  const Result<VringState> state = reply.As<VringState>();
  if (!state || state->index.value() != index || !reply.fds.empty()) {
    return std::unexpected(Break(MakeError(ErrorKind::kProtocol, "bad answer to GET_VRING_BASE")));
  }
  ring.position = virtio::RingPosition::FromVringBase(state->num, packed());
  // A drained split ring has used all that it took.
  if (!packed()) ring.position.next_used = ring.position.next_avail;
  ring.started = false;
  return {};
}

Result<virtio::RingPosition> Frontend::StopQueue(uint16_t index) {
  MutexLock lock(mutex_);
  CallScope call(*this, options_.drain_timeout);
  Ring* const found = FindRing(index);
  if (found == nullptr) {
    return Fail(ErrorKind::kInvalidArgument, "queue {} of {} does not run", index, options_.name);
  }
  // Whatever comes of it, the guest has taken the queue back: a successor must not start it.
  Ring ring = std::move(*found);
  std::erase_if(rings_, [&](const Ring& other) { return other.index == index; });
  Status stopped = broken_ ? CheckAlive() : FetchPosition(ring);
  if (stopped) return ring.position;
  if (broken_) taken_back_.push_back(index);
  return std::unexpected(AsLost(std::move(stopped).error()));
}

Result<std::vector<virtio::RingPosition>> Frontend::Suspend() {
  MutexLock lock(mutex_);
  CallScope call(*this, options_.drain_timeout);
  if (!active_) return Fail(ErrorKind::kInvalidArgument, "{} is not active", options_.name);
  // A successor is not to run the queues, either.
  suspended_ = true;
  TRY(CheckAlive());
  std::vector<virtio::RingPosition> positions;
  for (Ring& ring : rings_) {
    Status stopped = ring.started ? FetchPosition(ring) : Status();
    if (!stopped) return std::unexpected(AsLost(std::move(stopped).error()));
    if (positions.size() <= ring.index) positions.resize(ring.index + size_t{1});
    positions[ring.index] = ring.position;
  }
  return positions;
}

Status Frontend::StopDevice() {
  for (Ring& ring : rings_) {
    if (ring.started) TRY(FetchPosition(ring));
  }
  if (Has(kProtocolStatus)) return SendStatus(0);
  if (Has(kProtocolResetDevice)) return Set(Request::kResetDevice, {});
  return {};
}

Status Frontend::Deactivate() {
  MutexLock lock(mutex_);
  CallScope call(*this, options_.drain_timeout);
  Status stopped = broken_ ? CheckAlive() : StopDevice();
  // As in StopQueue: from here there is nothing to replay.
  Forget();
  if (stopped.has_value()) return stopped;
  // One that refuses to stop is stopped by the end of the connection.
  return std::unexpected(AsLost(Break(std::move(stopped).error())));
}

Status Frontend::Reattach(sys::UnixSocket socket) {
  MutexLock lock(mutex_);
  TRY_CONTEXT(Attach(std::move(socket)), "connecting to the new device process of {}",
              options_.name);
  if (!active_) return {};
  CallScope call(*this, options_.handshake_timeout);
  const bool recorded = Has(kProtocolInflightShmfd) && inflight_fd_.valid();
  for (Ring& ring : rings_) {
    if (!ring.started) continue;
    if (!recorded) {
      broken_ = true;
      return Fail(ErrorKind::kUnsupported, "{} keeps no in-flight records: its requests are lost",
                  options_.name);
    }
    // A split ring tells itself how far it was used; the successor adds what its records say.
    // Packed rings are placed by the records alone.
    if (packed()) continue;
    const auto used = memory_.Cell<uint16_t>(memory::GuestAddr(ring.addresses.device.value() + 2));
    if (used) ring.position.next_avail = used->LoadAcquire();
  }
  // Whoever suspended it hands the rings over.
  if (suspended_) return {};
  TRY_CONTEXT(SendSetup(), "handing the rings of {} to the new device process", options_.name);
  for (const Ring& ring : rings_) {
    // The predecessor may have died between taking a notification and acting on it, or between
    // publishing and interrupting. One too many of either does no harm.
    ring.kick.Signal();
    ring.call.Signal();
  }
  return {};
}

void Frontend::OnSocketReady() {
  {
    MutexLock lock(state_mutex_);
    if (calls_ > 0) {
      // The answer to a call: its thread reads it. Silence the watch until then, it is
      // level-triggered.
      silenced_ = true;
      socket_watch_.SetInterest(event::Interest::kNone);
      return;
    }
  }
  MutexLock lock(mutex_);
  if (broken_) {
    socket_watch_.Reset();
    return;
  }
  uint8_t byte = 0;
  const int fd = socket_.fd().get();
  const ssize_t peeked =
      sys::RetryEintr([&] { return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT); });
  // A call that ended meanwhile has taken what was there.
  if (peeked == -1 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
  socket_watch_.Reset();
  (void)Break(peeked > 0 ? MakeError(ErrorKind::kProtocol, "{} sent what it was not asked for",
                                     options_.name)
                         : MakeError(ErrorKind::kDisconnected,
                                     "the device process of {} has closed", options_.name));
}

}  // namespace crosvm::vhost_user

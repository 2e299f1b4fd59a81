#include "vhost_user/backend_server.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "sys/file.h"
#include "sys/memfd.h"
#include "virtio/types.h"

namespace crosvm::vhost_user {
namespace {

// With shared memory more: offered_protocol().
constexpr uint64_t kOfferedProtocol = kProtocolMq | kProtocolReplyAck | kProtocolBackendReq |
                                      kProtocolConfig | kProtocolInflightShmfd |
                                      kProtocolResetDevice | kProtocolStatus;
// So that a front-end that sends without pause leaves time for the device's own work.
constexpr int kMessagesPerWake = 16;
// A front-end may choose its queue size without asking us; what a device must be able to bear at
// least.
constexpr uint16_t kAlwaysAcceptedSize = 1024;

// Under the same number, as threads of the device may be signalling by it: they use the one or the
// other, never a closed one.
Status ReplaceCall(const sys::EventFd& running, const sys::EventFd& by) {
  sys::EventFd nobody = TRY(sys::EventFd::Create());
  struct stat info{};
  // What cannot be an eventfd is not written to (EventFd::Adopt()).
  const bool usable =
      by.valid() && fstat(by.fd().get(), &info) == 0 && (info.st_mode & S_IFMT) == 0;
  const int source = usable ? by.fd().get() : nobody.fd().get();
  if (dup3(source, running.fd().get(), O_CLOEXEC) < 0) return FailErrno("changing a call eventfd");
  return {};
}

Status NoFds(const Message& message) {
  if (message.fds.empty()) return {};
  return Fail(ErrorKind::kProtocol, "{} came with {} descriptors", RequestName(message.request),
              message.fds.size());
}

}  // namespace

Result<std::unique_ptr<BackendServer>> BackendServer::Create(event::EventLoop& loop,
                                                             virtio::Device& device,
                                                             sys::UnixSocket socket,
                                                             BackendServerOptions options,
                                                             Closed on_closed) {
  CHECK(device.info().queue_sizes.size() <= kMaxQueues);
  TRY(sys::SetNonBlocking(socket.fd(), true));
  std::unique_ptr<BackendServer> server(
      new BackendServer(loop, device, std::move(socket), options, std::move(on_closed)));
  BackendServer* const raw = server.get();
  server->watch_ = TRY(loop.AddWatch(raw->socket_.fd(), event::Interest::kRead,
                                     [raw](event::Ready) { raw->OnReadable(); }));
  device.set_config_changed([raw] { raw->OnConfigChanged(); });
  return server;
}

BackendServer::BackendServer(event::EventLoop& loop, virtio::Device& device, sys::UnixSocket socket,
                             BackendServerOptions options, Closed on_closed)
    : loop_(loop),
      device_(device),
      socket_(std::move(socket)),
      options_(options),
      on_closed_(std::move(on_closed)),
      self_(std::make_shared<BackendServer*>(this)),
      vrings_(device.info().queue_sizes.size()) {
}

BackendServer::~BackendServer() {
  CloseBackendChannel();
  if (on_closed_) device_.set_config_changed(nullptr);
}

void BackendServer::OnReadable() {
  for (int i = 0; i < kMessagesPerWake && paused_ == 0 && !closing_; ++i) {
    Result<std::optional<Message>> message = reader_.Read(socket_);
    if (!message) return Close(std::move(message).error());
    if (!*message) return;
    Message& request = **message;
    Status status = Handle(request);
    if (!status) {
      const std::string name = RequestName(request.request);
      // Best effort: the peer may want to know before it is cut off.
      (void)Acknowledge(request.request, request.flags, false);
      return Close(std::move(status).error().Context(name));
    }
  }
}

void BackendServer::Pause() {
  if (paused_++ == 0 && watch_.active()) watch_.SetInterest(event::Interest::kNone);
}

void BackendServer::Resume() {
  CHECK(paused_ > 0);
  if (--paused_ == 0 && watch_.active()) watch_.SetInterest(event::Interest::kRead);
}

Status BackendServer::Reply(const Message& to, std::span<const uint8_t> payload,
                            std::span<const sys::BorrowedFd> fds) {
  return SendMessage(socket_, to.request, kFlagReply, payload, fds);
}

Status BackendServer::ReplyU64(const Message& to, uint64_t value) {
  return Reply(to, BytesOf(U64{value}));
}

Status BackendServer::Acknowledge(uint32_t request, uint32_t flags, bool success) {
  if ((flags & kFlagNeedReply) == 0 || (protocol_features_ & kProtocolReplyAck) == 0) return {};
  return SendMessage(socket_, request, kFlagReply, BytesOf(U64{success ? 0u : 1u}));
}

Status BackendServer::RequireProtocol(const Message& message, uint64_t feature) const {
  if ((protocol_features_ & feature) != 0) return {};
  return Fail(ErrorKind::kProtocol, "{} without its protocol feature",
              RequestName(message.request));
}

bool BackendServer::packed() const {
  return (features_.value_or(0) & virtio::FeatureBit(VIRTIO_F_RING_PACKED)) != 0;
}

uint64_t BackendServer::offered_protocol() const {
  if (device_.info().shared_memory.empty()) return kOfferedProtocol;
  return kOfferedProtocol | kProtocolShmem;
}

// Each handler answers requests that have an answer of their own. The others end in Acknowledge(),
// here or, when they take time, in their continuation.
Status BackendServer::Handle(Message& message) {
  if (message.is_reply())
    return Fail(ErrorKind::kProtocol, "a reply, where a request was expected");
  const auto acknowledged = [&](Status status) -> Status {
    TRY(std::move(status));
    return Acknowledge(message.request, message.flags, true);
  };
  switch (static_cast<Request>(message.request)) {
    case Request::kSetMemTable:
      return SetMemTable(message);
    case Request::kSetInflightFd:
      return acknowledged(SetInflightFd(message));
    case Request::kSetVringKick:
      return acknowledged(SetVringKick(message));
    case Request::kSetVringCall:
      return acknowledged(SetVringCall(message));
    case Request::kSetVringErr:
      return acknowledged(SetVringErr(message));
    case Request::kSetBackendReqFd:
      return acknowledged(SetBackendReqFd(message));
    default:
      break;
  }
  TRY(NoFds(message));
  switch (static_cast<Request>(message.request)) {
    case Request::kGetFeatures:
      return ReplyU64(message, device_.info().features | kFeatureProtocol);
    case Request::kSetFeatures:
      return acknowledged(SetFeatures(message));
    case Request::kGetProtocolFeatures:
      return ReplyU64(message, offered_protocol());
    case Request::kSetProtocolFeatures:
      return acknowledged(SetProtocolFeatures(message));
    case Request::kGetQueueNum:
      return ReplyU64(message, vrings_.size());
    // Ownership means nothing on a socket of its own, and RESET_OWNER is deprecated.
    case Request::kSetOwner:
    case Request::kResetOwner:
      return acknowledged({});
    case Request::kSetVringNum:
      return acknowledged(SetVringNum(message));
    case Request::kSetVringAddr:
      return acknowledged(SetVringAddr(message));
    case Request::kSetVringBase:
      return acknowledged(SetVringBase(message));
    case Request::kGetVringBase:
      return GetVringBase(message);
    case Request::kSetVringEnable:
      return SetVringEnable(message);
    case Request::kGetConfig:
      return GetConfig(message);
    case Request::kSetConfig:
      return acknowledged(SetConfig(message));
    case Request::kGetShmemConfig:
      return GetShmemConfig(message);
    case Request::kGetInflightFd:
      return GetInflightFd(message);
    case Request::kSetStatus:
      return SetStatus(message);
    case Request::kGetStatus:
      TRY(RequireProtocol(message, kProtocolStatus));
      return ReplyU64(message, status_);
    case Request::kResetDevice:
      TRY(RequireProtocol(message, kProtocolResetDevice));
      ResetDevice(message.request, message.flags);
      return {};
    default:
      return Fail(ErrorKind::kProtocol, "this back-end does not know it");
  }
}

Status BackendServer::SetFeatures(const Message& message) {
  const U64 payload = TRY(message.As<U64>());
  const uint64_t features = payload.value;
  if ((features & ~(device_.info().features | kFeatureProtocol)) != 0) {
    return Fail(ErrorKind::kProtocol, "features {:#x} were not offered",
                features & ~(device_.info().features | kFeatureProtocol));
  }
  if (features_ == features) return {};
  for (const Vring& vring : vrings_) {
    if (vring.state != RingState::kStopped) {
      return Fail(ErrorKind::kProtocol, "features change while a ring runs");
    }
  }
  ResetNow();
  features_ = features;
  return {};
}

Status BackendServer::SetProtocolFeatures(const Message& message) {
  const U64 payload = TRY(message.As<U64>());
  if ((payload.value & ~offered_protocol()) != 0) {
    return Fail(ErrorKind::kProtocol, "protocol features {:#x} were not offered",
                payload.value & ~offered_protocol());
  }
  protocol_features_ = payload.value;
  return {};
}

Status BackendServer::SetMemTable(Message& message) {
  const MemoryHeader header = TRY(message.Front<MemoryHeader>());
  const size_t count = header.count;
  if (count > sys::kMaxFdsPerMessage || message.fds.size() != count ||
      message.payload.size() != sizeof(MemoryHeader) + count * sizeof(MemoryRegion)) {
    return Fail(ErrorKind::kProtocol, "{} regions in {} bytes with {} descriptors", count,
                message.payload.size(), message.fds.size());
  }
  std::vector<memory::RegionFile> files;
  std::vector<UserRange> ranges;
  for (size_t i = 0; i < count; ++i) {
    MemoryRegion region;
    std::memcpy(&region, message.payload.data() + sizeof(MemoryHeader) + i * sizeof(region),
                sizeof(region));
    const memory::GuestAddr start(region.guest_address);
    files.push_back({.start = start,
                     .size = region.size,
                     .fd = std::move(message.fds[i]),
                     .fd_offset = region.mmap_offset});
    ranges.push_back({.user_address = region.user_address, .size = region.size, .guest = start});
  }
  // TRUST: Map checks addresses, sizes, files and seals.
  memory::GuestMemory memory =
      TRY(memory::GuestMemory::Map(std::move(files), options_.require_seals));
  // Running rings hold the old memory; they go on in the new one.
  StopAll([this, request = message.request, flags = message.flags, memory = std::move(memory),
           ranges = std::move(ranges)]() mutable {
    memory_ = std::move(memory);
    user_ranges_ = std::move(ranges);
    bool good = true;
    for (uint16_t i = 0; i < vrings_.size(); ++i) good = MaybeStart(i).has_value() && good;
    if (Status sent = Acknowledge(request, flags, good); !sent) Close(std::move(sent).error());
  });
  return {};
}

std::optional<memory::GuestAddr> BackendServer::FromUser(uint64_t address) const {
  for (const UserRange& range : user_ranges_) {
    if (address < range.user_address || address - range.user_address >= range.size) continue;
    // The guest range was checked not to wrap.
    return memory::GuestAddr(range.guest.value() + (address - range.user_address));
  }
  return std::nullopt;
}

Result<BackendServer::Vring*> BackendServer::StoppedVring(uint64_t index) {
  if (index >= vrings_.size()) {
    return Fail(ErrorKind::kProtocol, "ring {} of {}", index, vrings_.size());
  }
  if (vrings_[index].state != RingState::kStopped) {
    return Fail(ErrorKind::kProtocol, "ring {} is running", index);
  }
  return &vrings_[index];
}

Status BackendServer::SetVringNum(const Message& message) {
  const VringState state = TRY(message.As<VringState>());
  Vring* const vring = TRY(StoppedVring(state.index));
  const uint16_t limit = std::max(device_.info().queue_sizes[state.index], kAlwaysAcceptedSize);
  if (state.num.value() == 0 || state.num > limit) {
    return Fail(ErrorKind::kProtocol, "ring {} of size {}, at most {} are possible",
                state.index.value(), state.num.value(), limit);
  }
  vring->size = static_cast<uint16_t>(state.num);
  return {};
}

Status BackendServer::SetVringAddr(const Message& message) {
  const VringAddr addresses = TRY(message.As<VringAddr>());
  Vring* const vring = TRY(StoppedVring(addresses.index));
  if (addresses.flags.value() != 0) return Fail(ErrorKind::kProtocol, "logging was not negotiated");
  vring->addresses = addresses;
  return {};
}

Status BackendServer::SetVringBase(const Message& message) {
  const VringState state = TRY(message.As<VringState>());
  Vring* const vring = TRY(StoppedVring(state.index));
  vring->base = state.num;
  return {};
}

Status BackendServer::GetVringBase(const Message& message) {
  const VringState state = TRY(message.As<VringState>());
  if (state.index >= vrings_.size()) {
    return Fail(ErrorKind::kProtocol, "ring {} of {}", state.index.value(), vrings_.size());
  }
  const auto index = static_cast<uint16_t>(state.index);
  vrings_[index].started = false;
  Stop(index, [this, index, request = message.request] {
    const VringState answer{.index = uint32_t{index}, .num = vrings_[index].base};
    Status sent = SendMessage(socket_, request, kFlagReply, BytesOf(answer));
    if (!sent) return Close(std::move(sent).error());
    // Only now: a front-end that does not know where the queue stands goes by the records.
    ForgetInflight(index);
  });
  return {};
}

Result<BackendServer::VringFile> BackendServer::TakeVringFile(Message& message) {
  const U64 payload = TRY(message.As<U64>());
  const bool none = (payload.value & kVringNoFd) != 0;
  const uint64_t index = payload.value & kVringIndexMask;
  if ((payload.value & ~(kVringIndexMask | kVringNoFd)) != 0 || index >= vrings_.size()) {
    return Fail(ErrorKind::kProtocol, "ring {:#x} of {}", payload.value.value(), vrings_.size());
  }
  if (message.fds.size() != (none ? 0u : 1u)) {
    return Fail(ErrorKind::kProtocol, "came with {} descriptors", message.fds.size());
  }
  VringFile file{.index = static_cast<uint16_t>(index), .event = {}};
  if (none) return file;
  // A blocking descriptor would let the front-end (or the guest behind it) stop this process in a
  // read or a write.
  TRY(sys::SetNonBlocking(message.fds[0], true));
  file.event = sys::EventFd::Adopt(std::move(message.fds[0]));
  return file;
}

Status BackendServer::SetVringKick(Message& message) {
  VringFile file = TRY(TakeVringFile(message));
  Vring* const vring = TRY(StoppedVring(file.index));
  if (!file.event.valid()) return Fail(ErrorKind::kUnsupported, "polled rings are not supported");
  vring->kick = std::move(file.event);
  vring->started = true;
  // Bad addresses are the guest's doing; the front-end lives on without this ring.
  (void)MaybeStart(file.index);
  return {};
}

Status BackendServer::SetVringCall(Message& message) {
  VringFile file = TRY(TakeVringFile(message));
  Vring& vring = vrings_[file.index];
  if (vring.state != RingState::kStopped) TRY(ReplaceCall(*vring.running_call, file.event));
  vring.call = std::move(file.event);
  return {};
}

Status BackendServer::SetVringErr(Message& message) {
  VringFile file = TRY(TakeVringFile(message));
  vrings_[file.index].error = std::move(file.event);
  return {};
}

Status BackendServer::SetVringEnable(const Message& message) {
  const VringState state = TRY(message.As<VringState>());
  if (state.index >= vrings_.size() || state.num > 1) {
    return Fail(ErrorKind::kProtocol, "ring {} of {} to state {}", state.index.value(),
                vrings_.size(), state.num.value());
  }
  const auto index = static_cast<uint16_t>(state.index);
  vrings_[index].enabled = state.num.value() == 1;
  if (state.num.value() == 1) {
    const bool good = MaybeStart(index).has_value();
    return Acknowledge(message.request, message.flags, good);
  }
  Stop(index, [this, request = message.request, flags = message.flags] {
    if (Status sent = Acknowledge(request, flags, true); !sent) Close(std::move(sent).error());
  });
  return {};
}

Status BackendServer::SetBackendReqFd(Message& message) {
  TRY(RequireProtocol(message, kProtocolBackendReq));
  if (message.fds.size() != 1 || !message.payload.empty()) {
    return Fail(ErrorKind::kProtocol, "{} descriptors and {} bytes", message.fds.size(),
                message.payload.size());
  }
  TRY(sys::SetNonBlocking(message.fds[0], true));
  CloseBackendChannel();
  constexpr uint64_t kMapping = kProtocolShmem | kProtocolReplyAck;
  const bool mapping = (protocol_features_ & kMapping) == kMapping;
  backend_channel_ =
      std::make_shared<BackendChannel>(sys::UnixSocket(std::move(message.fds[0])), mapping);
  if (mapping) device_.SetSharedMemory(backend_channel_);
  return {};
}

void BackendServer::CloseBackendChannel() {
  // The device may hold on to it, and wait in it.
  if (backend_channel_) backend_channel_->Close();
  backend_channel_.reset();
}

void BackendServer::OnConfigChanged() {
  if (backend_channel_) backend_channel_->NotifyConfigChanged();
}

Status BackendServer::GetShmemConfig(const Message& message) {
  TRY(RequireProtocol(message, kProtocolShmem));
  const std::vector<virtio::SharedMemoryRegion>& regions = device_.info().shared_memory;
  ShmemConfig config{.count = static_cast<uint32_t>(regions.size()), .padding = 0u, .sizes = {}};
  for (const virtio::SharedMemoryRegion& region : regions) config.sizes[region.id] = region.size;
  return Reply(message, BytesOf(config));
}

Status BackendServer::GetConfig(const Message& message) {
  TRY(RequireProtocol(message, kProtocolConfig));
  const ConfigHeader header = TRY(message.Front<ConfigHeader>());
  const uint32_t offset = header.offset;
  const uint32_t size = header.size;
  if (!RangeFits(offset, size, kMaxConfigSize) || message.payload.size() != sizeof(header) + size) {
    return Fail(ErrorKind::kProtocol, "{} bytes at {} with {} bytes of payload", size, offset,
                message.payload.size());
  }
  // What a front-end expects behind our configuration space reads as zeroes.
  std::vector<uint8_t> answer(sizeof(header) + size);
  std::memcpy(answer.data(), &header, sizeof(header));
  const uint32_t have = device_.info().config_size;
  if (offset < have && size > 0) {
    device_.ReadConfig(offset,
                       std::span(answer).subspan(sizeof(header), std::min(size, have - offset)));
  }
  return Reply(message, answer);
}

Status BackendServer::SetConfig(const Message& message) {
  TRY(RequireProtocol(message, kProtocolConfig));
  const ConfigHeader header = TRY(message.Front<ConfigHeader>());
  const uint32_t size = header.size;
  if (!RangeFits<uint32_t>(header.offset, size,
                           std::min(device_.info().config_size, kMaxConfigSize)) ||
      message.payload.size() != sizeof(header) + size) {
    return Fail(ErrorKind::kProtocol, "{} bytes at {} with {} bytes of payload", size,
                header.offset.value(), message.payload.size());
  }
  if (size > 0)
    device_.WriteConfig(header.offset, std::span(message.payload).subspan(sizeof(header)));
  return {};
}

Status BackendServer::SetStatus(const Message& message) {
  TRY(RequireProtocol(message, kProtocolStatus));
  const U64 payload = TRY(message.As<U64>());
  if (payload.value > 0xff)
    return Fail(ErrorKind::kProtocol, "status {:#x}", payload.value.value());
  status_ = static_cast<uint8_t>(payload.value);
  if (status_ != 0) return Acknowledge(message.request, message.flags, true);
  ResetDevice(message.request, message.flags);
  return {};
}

void BackendServer::ResetDevice(uint32_t request, uint32_t flags) {
  for (Vring& vring : vrings_) {
    vring.started = false;
    vring.enabled = false;
  }
  StopAll([this, request, flags] {
    for (uint16_t i = 0; i < vrings_.size(); ++i) ForgetInflight(i);
    ResetNow();
    if (Status sent = Acknowledge(request, flags, true); !sent) Close(std::move(sent).error());
  });
}

void BackendServer::ResetNow() {
  if (std::exchange(configured_, false)) device_.Reset();
}

void BackendServer::Close(Error why) {
  if (std::exchange(closing_, true)) return;
  why_closed_ = std::move(why);
  watch_.Reset();
  CloseBackendChannel();
  for (Vring& vring : vrings_) vring.started = false;
  StopAll([this] { FinishClose(); });
}

void BackendServer::FinishClose() {
  if (options_.reset_at_end) ResetNow();
  device_.set_config_changed(nullptr);
  loop_.Post([weak = std::weak_ptr(self_)] {
    const auto self = weak.lock();
    if (!self) return;
    BackendServer& server = **self;
    Closed on_closed = std::exchange(server.on_closed_, nullptr);
    Error why = *std::move(server.why_closed_);
    if (on_closed) on_closed(std::move(why));
  });
}

}  // namespace crosvm::vhost_user

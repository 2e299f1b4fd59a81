// The back-end channel of a Frontend: what a back-end asks for unasked, mostly to have files mapped
// into its shared memory.
//
// It is read by the loop, and by every thread that waits for an answer of the back-end: a back-end
// that drains its queues may first have to finish a request that waits for a mapping, while the
// loop's own thread waits for the back-end, or for the thread that does.
#include <algorithm>
#include <utility>

#include "base/checked_math.h"
#include "base/log.h"
#include "sys/file.h"
#include "vhost_user/frontend.h"

namespace crosvm::vhost_user {
namespace {

// So that a back-end that sends without pause leaves time for others.
constexpr int kMessagesPerWake = 16;

}  // namespace

Status Frontend::LearnSharedMemory() {
  std::vector<virtio::SharedMemoryRegion> regions;
  if (Has(kProtocolShmem)) {
    const Message reply = TRY(Get(Request::kGetShmemConfig, {}));
    const Result<ShmemConfig> config = reply.As<ShmemConfig>();
    if (!config || !reply.fds.empty()) {
      return std::unexpected(
          Break(MakeError(ErrorKind::kProtocol, "bad answer to GET_SHMEM_CONFIG")));
    }
    // TRUST: of each size and of their sum; what is no multiple of the page size is found by
    // SharedMemory::Create().
    uint64_t left = options_.max_shared_memory;
    for (size_t id = 0; id < kMaxShmemRegions; ++id) {
      const uint64_t size = config->sizes[id];
      if (size == 0) continue;
      if (size > left) {
        return Fail(ErrorKind::kProtocol, "{} wants more than {:#x} bytes of shared memory",
                    options_.name, options_.max_shared_memory);
      }
      left -= size;
      regions.push_back({.id = static_cast<uint8_t>(id), .size = size});
    }
  }
  // A guest that knows the regions of a predecessor goes on to use them.
  if (known_ && options_.info.shared_memory != regions) {
    return Fail(ErrorKind::kUnsupported, "the new device process has another shared memory");
  }
  if (!known_) options_.info.shared_memory = std::move(regions);
  return {};
}

void Frontend::SetSharedMemory(std::shared_ptr<virtio::SharedMemory> memory) {
  MutexLock lock(channel_mutex_);
  shared_memory_ = std::move(memory);
}

Status Frontend::OpenBackendChannel() {
  auto [ours, theirs] = TRY(sys::UnixSocket::Pair(sys::SocketType::kStream));
  TRY(sys::SetNonBlocking(ours.fd(), true));
  backend_watch_ = TRY(loop_.AddWatch(ours.fd(), event::Interest::kRead,
                                      [this](event::Ready) { OnBackendRequest(); }));
  {
    MutexLock lock(channel_mutex_);
    backend_channel_ = std::move(ours);
    backend_reader_ = MessageReader();
    channel_open_ = true;
    shmem_negotiated_ = Has(kProtocolShmem);
  }
  const sys::BorrowedFd fds[] = {theirs.fd()};
  return Set(Request::kSetBackendReqFd, {}, fds);
}

void Frontend::OnBackendRequest() {
  Status served;
  {
    MutexLock lock(channel_mutex_);
    served = ServeBackendChannel();
    if (!channel_open_) backend_watch_.Reset();
  }
  if (served.has_value()) return;
  backend_watch_.Reset();
  MutexLock lock(mutex_);
  (void)Break(std::move(served).error());
}

Status Frontend::ServeBackendChannel() {
  for (int i = 0; i < kMessagesPerWake && channel_open_; ++i) {
    Result<std::optional<Message>> message = backend_reader_.Read(backend_channel_);
    if (message && !*message) return {};
    if (!message) {
      channel_open_ = false;
      // The main socket tells whether the process is gone.
      if (message.error().kind() == ErrorKind::kDisconnected) return {};
      return std::unexpected(std::move(message).error());
    }
    TRY(HandleBackendRequest(**message));
  }
  return {};
}

Status Frontend::HandleBackendRequest(const Message& message) {
  const auto bad = [&]() -> std::unexpected<Error> {
    return Fail(ErrorKind::kProtocol, "bad message of {} on the back-end channel", options_.name);
  };
  bool done = true;
  switch (static_cast<BackendRequest>(message.request)) {
    case BackendRequest::kConfigChange: {
      if (!message.payload.empty() || !message.fds.empty()) return bad();
      std::function<void()> changed;
      {
        MutexLock lock(state_mutex_);
        changed = events_.config_changed;
      }
      if (changed) changed();
      break;
    }
    case BackendRequest::kShmemMap:
    case BackendRequest::kShmemUnmap: {
      const bool map = message.request == static_cast<uint32_t>(BackendRequest::kShmemMap);
      const Result<ShmemMapping> mapping = message.As<ShmemMapping>();
      if (!shmem_negotiated_ || !mapping || message.fds.size() != (map ? 1u : 0u)) return bad();
      const Status changed = ChangeMapping(*mapping, map ? &message.fds[0] : nullptr);
      done = changed.has_value();
      if (!done) LOG_DEBUG("{}: {}", options_.name, changed.error().ToString());
      break;
    }
    default:
      return bad();
  }
  if (!message.needs_reply() || message.is_reply()) return {};
  return SendMessage(backend_channel_, message.request, kFlagReply, BytesOf(U64{done ? 0u : 1u}));
}

Status Frontend::ChangeMapping(const ShmemMapping& mapping, const sys::UniqueFd* file) {
  if (shared_memory_ == nullptr) {
    return Fail(ErrorKind::kUnsupported, "no shared memory was made");
  }
  const virtio::SharedMemoryRange range{
      .region = mapping.region, .offset = mapping.offset, .length = mapping.length};
  if (file == nullptr) return shared_memory_->Unmap(range);
  if ((mapping.flags & ~kShmemWritable) != 0) {
    return Fail(ErrorKind::kInvalidArgument, "mapping with flags {:#x}", mapping.flags.value());
  }
  return shared_memory_->Map(range, *file, mapping.file_offset,
                             (mapping.flags & kShmemWritable) != 0);
}

}  // namespace crosvm::vhost_user

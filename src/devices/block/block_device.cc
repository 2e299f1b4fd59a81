#include "devices/block/block_device.h"

#include <sys/uio.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "virtio/types.h"

namespace crosvm::devices::block {
namespace {

constexpr uint16_t kQueueSize = 256;
// Chains taken from one queue before others (and the control socket) get their turn.
constexpr int kChainsPerTurn = 128;
// So long the loop's other callbacks may have to wait while there is always something to do.
constexpr std::chrono::microseconds kLongestTurn{500};
// A request whose buffers O_DIRECT cannot take goes through a buffer of ours, in pieces. The driver
// chooses how large and how many such requests are, so both are bounded.
constexpr uint64_t kBounceBytes = 1 << 20;
constexpr size_t kMaxBounces = 32;

struct FreeDeleter {
  void operator()(uint8_t* pointer) const { free(pointer); }
};
using AlignedBuffer = std::unique_ptr<uint8_t, FreeDeleter>;

bool IsAlignedIovec(const iovec& entry, uint32_t alignment) {
  // SAFETY: only the number is looked at.
  return (reinterpret_cast<uintptr_t>(entry.iov_base) | entry.iov_len) % alignment == 0;
}

}  // namespace

// One request in flight. Its address is stable: the kernel holds pointers to `iovecs`.
struct BlockDevice::Slot {
  BlockDevice* device = nullptr;
  QueueState* queue = nullptr;
  std::optional<virtio::Chain> chain;
  Request request;
  event::IoOp op;
  std::vector<iovec> iovecs;
  AlignedBuffer bounce;      // for O_DIRECT when the guest's buffers are not aligned for it
  uint64_t transferred = 0;  // bytes that went through `bounce`
  uint64_t expected = 0;     // bytes that the transfer under way is to move
  size_t next_range = 0;     // discard, write zeroes
  bool syncing = false;      // write-through: the data is written, the sync is under way
};

struct BlockDevice::QueueState {
  explicit QueueState(virtio::Queue taken) : queue(std::move(taken)) {}

  virtio::Queue queue;
  event::Watch kick;
  event::Gate gate;
  std::vector<Slot> slots;
  std::vector<Slot*> free_slots;
  bool stopping = false;
  bool dirty = false;     // completed chains wait for Flush
  bool finished = false;  // requests ended since the last turn

  // As many chains as the ring has entries are in flight: the next completion goes on.
  bool full() const { return free_slots.empty(); }
};

BlockDevice::BlockDevice(event::EventLoop& loop, std::unique_ptr<event::AsyncFile> file,
                         const DeviceOptions& options)
    : loop_(loop),
      file_(std::move(file)),
      options_(options),
      self_(std::make_shared<BlockDevice*>(this)) {
  limits_ = {.capacity_bytes = options.capacity_bytes / kSectorBytes * kSectorBytes,
             .read_only = options.read_only,
             .discard = options.discard && !options.read_only};

  info_.device_id = VIRTIO_ID_BLOCK;
  info_.features = virtio::kQueueFeatures | virtio::FeatureBit(VIRTIO_BLK_F_SEG_MAX) |
                   virtio::FeatureBit(VIRTIO_BLK_F_BLK_SIZE) |
                   virtio::FeatureBit(VIRTIO_BLK_F_FLUSH) | virtio::FeatureBit(VIRTIO_BLK_F_MQ);
  if (options.read_only) {
    info_.features |= virtio::FeatureBit(VIRTIO_BLK_F_RO);
  } else {
    info_.features |= virtio::FeatureBit(VIRTIO_BLK_F_WRITE_ZEROES);
    if (limits_.discard) info_.features |= virtio::FeatureBit(VIRTIO_BLK_F_DISCARD);
  }
  info_.queue_sizes.assign(options.queues, kQueueSize);
  info_.config_size = sizeof(virtio_blk_config);
  queues_.resize(options.queues);

  config_.capacity = limits_.capacity_bytes / kSectorBytes;
  config_.seg_max = kSegMax;
  config_.blk_size = options.block_size;
  config_.num_queues = options.queues;
  config_.max_discard_sectors = UINT32_MAX;
  config_.max_discard_seg = kMaxRangeSegments;
  config_.discard_sector_alignment = options.block_size / static_cast<uint32_t>(kSectorBytes);
  config_.max_write_zeroes_sectors = UINT32_MAX;
  config_.max_write_zeroes_seg = kMaxRangeSegments;
  config_.write_zeroes_may_unmap = limits_.discard ? 1 : 0;
  file_->OnBatchEnd([this] { OnBatchEnd(); });
}

BlockDevice::~BlockDevice() = default;

void BlockDevice::ReadConfig(uint32_t offset, std::span<uint8_t> data) {
  CHECK(offset + data.size() <= sizeof(config_));
  // SAFETY: virtio_blk_config is a packed struct of integers, little-endian like this host.
  memcpy(data.data(), reinterpret_cast<const uint8_t*>(&config_) + offset, data.size());
}

void BlockDevice::WriteConfig(uint32_t, std::span<const uint8_t>) {
  // Only `wce` would be writable, and VIRTIO_BLK_F_CONFIG_WCE is not offered.
}

void BlockDevice::Configure(uint64_t features) {
  features_ = features;
}

bool BlockDevice::write_through() const {
  // Without FLUSH the driver cannot ask, so a completed write has to be stable
  // (virtio 1.2, 5.2.6.2).
  return (features_ & virtio::FeatureBit(VIRTIO_BLK_F_FLUSH)) == 0;
}

Status BlockDevice::StartQueue(uint16_t index, virtio::Queue queue) {
  CHECK(index < queues_.size() && queues_[index] == nullptr);
  auto state = std::make_unique<QueueState>(std::move(queue));
  QueueState* const raw = state.get();
  state->slots.resize(state->queue.size());
  for (Slot& slot : state->slots) {
    slot.device = this;
    slot.queue = raw;
    slot.op.context = &slot;
    slot.op.done = [](event::IoOp&, void* context) {
      Slot& finished = *static_cast<Slot*>(context);
      finished.device->OnDone(finished);
    };
    state->free_slots.push_back(&slot);
  }
  state->kick = TRY(
      loop_.AddWatch(state->queue.kick().fd(), event::Interest::kRead, [this, raw](event::Ready) {
        raw->queue.kick().Drain();
        ProcessQueue(*raw);
      }));
  queues_[index] = std::move(state);
  ProcessQueue(*raw);
  return {};
}

void BlockDevice::StopQueue(uint16_t index, std::function<void(virtio::Queue)> done) {
  CHECK(index < queues_.size() && queues_[index] != nullptr);
  QueueState& state = *queues_[index];
  state.stopping = true;
  state.kick.Reset();
  state.gate.WhenIdle([this, index, done = std::move(done)] {
    // The gate belongs to the state that is about to go: finish on a turn of its own.
    loop_.Post([weak = std::weak_ptr(self_), index, done] {
      const std::shared_ptr<BlockDevice*> self = weak.lock();
      if (!self) return;
      std::unique_ptr<QueueState> stopped = std::move((*self)->queues_[index]);
      stopped->queue.Flush();
      done(std::move(stopped->queue));
    });
  });
}

void BlockDevice::Reset() {
  features_ = 0;
}

Status BlockDevice::HandleControl(const ControlRequest& request) {
  const ResizeDisk* const resize = std::get_if<ResizeDisk>(&request);
  if (resize == nullptr) return Fail(ErrorKind::kUnsupported, "not a message for a disk");
  if (options_.read_only) return Fail(ErrorKind::kPermissionDenied, "the disk is read-only");
  // Requests beyond a smaller end that are in flight already are answered by the host's file
  // system.
  limits_.capacity_bytes = resize->bytes / options_.block_size * options_.block_size;
  config_.capacity = limits_.capacity_bytes / kSectorBytes;
  NotifyConfigChanged();
  return {};
}

void BlockDevice::ProcessQueue(QueueState& state) {
  if (state.stopping) return;
  state.queue.SuppressNotifications();
  for (int turn = 0; turn < kChainsPerTurn; ++turn) {
    if (state.full() || !state.queue.HasAvailable()) break;
    std::optional<virtio::Chain> chain = state.queue.Pop();
    if (!chain) break;
    Slot& slot = *state.free_slots.back();
    state.free_slots.pop_back();
    slot.chain = std::move(chain);
    state.gate.Enter();
    Start(slot);
  }
  file_->Flush();
  FlushQueues();
  PostSettle();
}

bool BlockDevice::Work() {
  bool worked = file_->Reap();
  for (const std::unique_ptr<QueueState>& state : queues_) {
    if (!state || state->stopping || state->full() || !state->queue.HasAvailable()) continue;
    ProcessQueue(*state);
    worked = true;
  }
  return worked;
}

bool BlockDevice::EnableNotifications() {
  bool more = false;
  for (const std::unique_ptr<QueueState>& state : queues_) {
    if (!state || state->stopping || state->full()) continue;
    more = state->queue.EnableNotifications() || more;
  }
  return more;
}

void BlockDevice::PostSettle() {
  if (std::exchange(settle_posted_, true)) return;
  poll_.WorkCame(event::Clock::now());
  loop_.Post([weak = std::weak_ptr(self_)] {
    if (const std::shared_ptr<BlockDevice*> self = weak.lock()) (*self)->Settle();
  });
}

void BlockDevice::Settle() {
  const auto work = [this] { return Work(); };
  const event::Clock::time_point end = event::Clock::now() + kLongestTurn;
  bool busy = true;
  while (busy && event::Clock::now() < end) busy = work() || poll_.Until(work);
  settle_posted_ = false;
  busy = busy || EnableNotifications();
  if (busy) PostSettle();
}

void BlockDevice::Start(Slot& slot) {
  if (!ParseRequest(*slot.chain, limits_, slot.request)) {
    slot.queue->queue.Complete(*std::exchange(slot.chain, std::nullopt), 0);
    Finish(slot, RequestStatus::kOk);
    return;
  }
  if (slot.request.error != RequestStatus::kOk) {
    Finish(slot, slot.request.error);
    return;
  }
  switch (slot.request.operation) {
    case Operation::kRead:
    case Operation::kWrite:
      if (slot.request.length == 0) {
        Finish(slot, RequestStatus::kOk);
        return;
      }
      SubmitTransfer(slot);
      return;
    case Operation::kFlush:
      if (options_.read_only) {
        Finish(slot, RequestStatus::kOk);
        return;
      }
      SubmitSync(slot);
      return;
    case Operation::kGetId:
      AnswerId(slot);
      return;
    case Operation::kDiscard:
    case Operation::kWriteZeroes:
      slot.next_range = 0;
      SubmitRange(slot);
      return;
  }
}

void BlockDevice::AnswerId(Slot& slot) {
  if (options_.id.empty()) {
    Finish(slot, RequestStatus::kUnsupported);
    return;
  }
  std::array<uint8_t, VIRTIO_BLK_ID_BYTES> id{};
  memcpy(id.data(), options_.id.data(), std::min(options_.id.size(), id.size()));
  virtio::SliceWriter writer(slot.request.data);
  Finish(slot, writer.Write(id) ? RequestStatus::kOk : RequestStatus::kIoError);
}

void BlockDevice::SubmitTransfer(Slot& slot) {
  slot.iovecs.clear();
  bool aligned = true;
  for (const memory::GuestSlice& slice : slot.request.data) {
    slot.iovecs.push_back(slice.ToIovec());
    aligned = aligned && IsAlignedIovec(slot.iovecs.back(), options_.memory_alignment);
  }
  if (!aligned) {
    if (bounces_ < kMaxBounces) {
      StartBounce(slot);
    } else {
      bounce_waiting_.push_back(&slot);
    }
    return;
  }
  const bool write = slot.request.operation == Operation::kWrite;
  slot.op.kind = write ? event::IoKind::kWrite : event::IoKind::kRead;
  slot.op.offset = slot.request.offset;
  slot.op.buffers = slot.iovecs;
  slot.expected = slot.request.length;
  file_->Submit(slot.op);
}

void BlockDevice::StartBounce(Slot& slot) {
  const uint64_t bytes = std::min(slot.request.length, kBounceBytes);
  // SAFETY: the alignment is a power of two of at least 512 here, and the size a multiple of it.
  slot.bounce.reset(static_cast<uint8_t*>(aligned_alloc(
      options_.memory_alignment, *AlignUp<uint64_t>(bytes, options_.memory_alignment))));
  if (!slot.bounce) {
    Finish(slot, RequestStatus::kIoError);
    return;
  }
  ++bounces_;
  SubmitBounce(slot);
}

void BlockDevice::SubmitBounce(Slot& slot) {
  const bool write = slot.request.operation == Operation::kWrite;
  slot.expected = std::min(slot.request.length - slot.transferred, kBounceBytes);
  if (write) {
    virtio::SliceReader reader(slot.request.data);
    const bool copied =
        reader.Skip(slot.transferred) && reader.Read({slot.bounce.get(), slot.expected});
    CHECK(copied);
  }
  slot.iovecs.assign(1, iovec{slot.bounce.get(), slot.expected});
  slot.op.kind = write ? event::IoKind::kWrite : event::IoKind::kRead;
  slot.op.offset = slot.request.offset + slot.transferred;
  slot.op.buffers = slot.iovecs;
  file_->Submit(slot.op);
}

void BlockDevice::ReleaseBounce(Slot& slot) {
  slot.transferred = 0;
  if (!slot.bounce) return;
  slot.bounce.reset();
  --bounces_;
  while (bounces_ < kMaxBounces && !bounce_waiting_.empty()) {
    Slot& next = *bounce_waiting_.front();
    bounce_waiting_.pop_front();
    StartBounce(next);
  }
}

void BlockDevice::SubmitSync(Slot& slot) {
  slot.op.kind = event::IoKind::kDataSync;
  slot.op.buffers = {};
  file_->Submit(slot.op);
}

void BlockDevice::SubmitRange(Slot& slot) {
  const ByteRange& range = slot.request.ranges[slot.next_range++];
  slot.op.kind = slot.request.operation == Operation::kDiscard ? event::IoKind::kPunchHole
                                                               : event::IoKind::kWriteZeroes;
  slot.op.offset = range.offset;
  slot.op.length = range.length;
  slot.op.may_unmap = range.may_unmap;
  slot.op.buffers = {};
  if (range.length == 0) {
    ContinueAfter(slot);
    return;
  }
  file_->Submit(slot.op);
}

void BlockDevice::OnDone(Slot& slot) {
  const int64_t result = slot.op.result;
  const bool transfer =
      slot.op.kind == event::IoKind::kRead || slot.op.kind == event::IoKind::kWrite;
  // A discard is a hint: that the image's file system cannot punch holes is no error
  // (virtio 1.2, 5.2.6.2).
  const bool refused_hint = slot.op.kind == event::IoKind::kPunchHole && result == -EOPNOTSUPP;
  const bool short_transfer =
      transfer && result >= 0 && static_cast<uint64_t>(result) != slot.expected;
  if ((result < 0 && !refused_hint) || short_transfer) {
    LOG_WARN_EVERY(std::chrono::seconds(1), "{} of {} bytes at {} failed: {}",
                   transfer ? "transfer" : "operation", slot.expected, slot.op.offset,
                   result < 0 ? strerrordesc_np(static_cast<int>(-result)) : "short transfer");
    Finish(slot, RequestStatus::kIoError);
  } else {
    ContinueAfter(slot);
  }
}

void BlockDevice::ContinueAfter(Slot& slot) {
  const Operation operation = slot.request.operation;
  if (slot.bounce && !slot.syncing) {
    if (operation == Operation::kRead) {
      virtio::SliceWriter writer(slot.request.data);
      const bool copied = writer.Skip(slot.transferred) &&
                          writer.Write(std::span(slot.bounce.get(), slot.expected));
      CHECK(copied);
    }
    slot.transferred += slot.expected;
    if (slot.transferred < slot.request.length) {
      SubmitBounce(slot);
      return;
    }
  }
  if (slot.next_range < slot.request.ranges.size()) {
    SubmitRange(slot);
    return;
  }
  const bool changed = operation == Operation::kWrite || operation == Operation::kWriteZeroes;
  if (changed && write_through() && !slot.syncing) {
    slot.syncing = true;
    SubmitSync(slot);
    return;
  }
  Finish(slot, RequestStatus::kOk);
}

void BlockDevice::Finish(Slot& slot, RequestStatus status) {
  QueueState& state = *slot.queue;
  if (slot.chain) {
    const uint8_t byte = static_cast<uint8_t>(status);
    slot.request.status.CopyFrom({&byte, 1});
    state.queue.Complete(*std::exchange(slot.chain, std::nullopt),
                         static_cast<uint32_t>(slot.request.writable_bytes));
  }
  slot.syncing = false;
  slot.next_range = 0;
  slot.expected = 0;
  slot.request.Clear();
  state.free_slots.push_back(&slot);
  state.dirty = true;
  state.finished = true;
  ReleaseBounce(slot);
  state.gate.Leave();
}

void BlockDevice::FlushQueues() {
  for (const std::unique_ptr<QueueState>& state : queues_) {
    if (state && std::exchange(state->dirty, false)) state->queue.Flush();
  }
}

// After the completions that were ready: one used-index store and one interrupt for all of them.
// The driver usually has more by then, which it need not notify of.
void BlockDevice::OnBatchEnd() {
  FlushQueues();
  for (const std::unique_ptr<QueueState>& state : queues_) {
    if (state && std::exchange(state->finished, false)) ProcessQueue(*state);
  }
}

}  // namespace crosvm::devices::block

#include "devices/p9/p9_device.h"

#include <linux/virtio_9p.h>
#include <linux/virtio_ids.h>

#include <algorithm>
#include <cerrno>
#include <latch>

#include "base/check.h"
#include "base/log.h"
#include "virtio/types.h"

namespace crosvm::devices::p9 {
namespace {

// What Linux' driver fills at most; a shorter queue would be too short for its longest requests
// where there are no indirect descriptors.
constexpr uint16_t kQueueSize = 128;
constexpr int kChainsPerTurn = 128;

std::vector<iovec> IovecsOf(const std::vector<memory::GuestSlice>& slices) {
  std::vector<iovec> pieces;
  pieces.reserve(slices.size());
  for (const memory::GuestSlice& slice : slices) pieces.push_back(slice.ToIovec());
  return pieces;
}

}  // namespace

// One request under way.
struct P9Device::Slot {
  std::optional<virtio::Chain> chain;
  std::vector<uint8_t> message;
  std::vector<iovec> data;  // of a Twrite
  std::vector<iovec> room;  // of an Rread
  uint8_t type = 0;
  uint16_t tag = 0;
  bool replayed = false;
  Answer answer;
  std::vector<Slot*> flushes;  // answered after this one
};

P9Device::P9Device(event::EventLoop& loop, std::unique_ptr<shared_dir::Share> share,
                   std::unique_ptr<Server> server, const DeviceOptions& options)
    : loop_(loop),
      share_(std::move(share)),
      server_(std::move(server)),
      self_(std::make_shared<P9Device*>(this)) {
  info_.device_id = VIRTIO_ID_9P;
  info_.features = virtio::kQueueFeatures | virtio::FeatureBit(VIRTIO_9P_MOUNT_TAG);
  info_.queue_sizes = {kQueueSize};
  const Le16 length(static_cast<uint16_t>(options.tag.size()));
  config_.resize(sizeof(length));
  memcpy(config_.data(), &length, sizeof(length));
  config_.insert(config_.end(), options.tag.begin(), options.tag.end());
  info_.config_size = static_cast<uint32_t>(config_.size());
}

P9Device::~P9Device() {
  // Its threads look at self_ when they are done.
  pool_.reset();
  // Of a device that is destroyed with its queue running, all that it took has been done by now.
  FinishDone();
  if (queue_) queue_->Flush();
  self_.reset();
}

Result<std::unique_ptr<P9Device>> P9Device::Create(event::EventLoop& loop,
                                                   std::unique_ptr<shared_dir::Share> share,
                                                   std::unique_ptr<Server> server,
                                                   const DeviceOptions& options) {
  const sys::BorrowedFd self_fds = share->self_fds();
  std::unique_ptr<P9Device> device(
      new P9Device(loop, std::move(share), std::move(server), options));
  device->pool_ = TRY(event::ThreadPool::Create(options.threads, "p9"));
  // One job for each thread: none takes a second one before all have begun.
  struct Entering {
    explicit Entering(size_t threads)
        : begun(static_cast<ptrdiff_t>(threads)), status(threads), left(threads) {}
    std::latch begun;
    Mutex mutex;
    CondVar changed;
    std::vector<Status> status;
    size_t left CROSVM_GUARDED_BY(mutex);
  };
  const auto entering = std::make_shared<Entering>(options.threads);
  for (size_t i = 0; i < options.threads; ++i) {
    device->pool_->Run([entering, i, self_fds] {
      entering->status[i] = shared_dir::EnterWorkerThread(self_fds);
      entering->begun.arrive_and_wait();
      const MutexLock lock(entering->mutex);
      --entering->left;
      entering->changed.NotifyAll();
    });
  }
  {
    const MutexLock lock(entering->mutex);
    while (entering->left > 0) entering->changed.Wait(entering->mutex);
  }
  for (Status& status : entering->status) TRY(std::move(status));
  return device;
}

void P9Device::ReadConfig(uint32_t offset, std::span<uint8_t> data) {
  CHECK(offset + data.size() <= config_.size());
  std::copy_n(config_.begin() + offset, data.size(), data.begin());
}

void P9Device::WriteConfig(uint32_t, std::span<const uint8_t>) {
}

void P9Device::Configure(uint64_t) {
}

void P9Device::Reset() {
  server_->Reset();
}

Status P9Device::StartQueue(uint16_t index, virtio::Queue queue) {
  CHECK(index == 0 && !queue_);
  kick_ = TRY(loop_.AddWatch(queue.kick().fd(), event::Interest::kRead, [this](event::Ready) {
    queue_->kick().Drain();
    ProcessQueue();
  }));
  slots_.resize(queue.size());
  free_.clear();
  for (Slot& slot : slots_) free_.push_back(&slot);
  queue_ = std::move(queue);
  stopping_ = false;
  ProcessQueue();
  return {};
}

void P9Device::StopQueue(uint16_t index, std::function<void(virtio::Queue)> done) {
  CHECK(index == 0 && queue_ && !stopping_);
  stopping_ = true;
  kick_.Reset();
  again_.Reset();
  gate_.WhenIdle([this, done = std::move(done)] {
    // Not from inside the last request's end.
    loop_.Post([weak = std::weak_ptr(self_), done] {
      const auto self = weak.lock();
      if (self == nullptr) return;
      P9Device& device = **self;
      virtio::Queue queue = *std::exchange(device.queue_, std::nullopt);
      queue.Flush();
      done(std::move(queue));
    });
  });
}

void P9Device::ProcessQueue() {
  if (stopping_ || !queue_) return;
  for (int turn = 0; turn < kChainsPerTurn; ++turn) {
    // As many as the ring has entries are under way: the next end goes on here.
    if (free_.empty()) break;
    const bool replayed = queue_->recovery_pending();
    std::optional<virtio::Chain> chain = queue_->Pop();
    if (!chain) {
      queue_->Flush();
      return;
    }
    Slot& slot = *free_.back();
    free_.pop_back();
    slot.chain = std::move(chain);
    slot.replayed = replayed;
    gate_.Enter();
    if (ReadMessage(slot)) {
      Start(slot);
    } else {
      Finish(slot);
    }
  }
  queue_->Flush();
  if (!free_.empty()) {
    again_ = loop_.AddTimer(event::Clock::duration::zero(), [this] { ProcessQueue(); });
  }
}

bool P9Device::ReadMessage(Slot& slot) {
  const uint64_t limit = slot.chain->writable_bytes();
  slot.answer = {};
  slot.data.clear();
  slot.room.clear();
  slot.type = 0;
  slot.tag = kNoTag;
  slot.message.resize(kHeaderBytes);
  const auto damaged = [&](int error) {
    slot.answer = Server::Failure(slot.tag, error, limit);
    return false;
  };
  virtio::SliceReader reader(slot.chain->readable());
  if (!reader.Read(slot.message)) return damaged(EINVAL);
  MessageReader header(slot.message);
  const uint32_t size = header.U32();
  slot.type = header.U8();
  slot.tag = header.U16();
  if (size < kHeaderBytes || size > slot.chain->readable_bytes()) return damaged(EINVAL);

  const bool write = slot.type == static_cast<uint8_t>(Type::kWrite);
  const uint32_t plain = write ? std::min(size, kWriteHeaderBytes) : size;
  if (plain > kMaxPlainRequest || size > kMaxMessage) return damaged(EMSGSIZE);
  slot.message.resize(plain);
  if (!reader.Read(std::span(slot.message).subspan(kHeaderBytes))) return damaged(EINVAL);
  std::vector<memory::GuestSlice> slices;
  if (write && size > plain && reader.Take(size - plain, slices)) slot.data = IovecsOf(slices);
  if (slot.type == static_cast<uint8_t>(Type::kRead) && limit > kReadHeaderBytes) {
    virtio::SliceWriter writer(slot.chain->writable());
    slices.clear();
    const uint64_t room = std::min<uint64_t>(limit, kMaxMessage) - kReadHeaderBytes;
    if (writer.Skip(kReadHeaderBytes) && writer.Take(room, slices)) slot.room = IovecsOf(slices);
  }
  return true;
}

void P9Device::Start(Slot& slot) {
  if (slot.type == static_cast<uint8_t>(Type::kFlush)) return Flush(slot);
  // The device outlives its threads, and the queue its requests.
  pool_->Run([this, &slot] {
    slot.answer = server_->Handle({.bytes = slot.message,
                                   .data = slot.data,
                                   .room = slot.room,
                                   .answer_limit = slot.chain->writable_bytes(),
                                   .replayed = slot.replayed});
    OnWorkerDone(slot);
  });
}

void P9Device::Flush(Slot& slot) {
  MessageReader in(std::span(slot.message).subspan(kHeaderBytes));
  const uint16_t old_tag = in.U16();
  MessageWriter out;
  slot.answer = in.ok() ? Answer{.bytes = std::move(out).Finish(AnswerTo(Type::kFlush), slot.tag)}
                        : Server::Failure(slot.tag, EINVAL, slot.chain->writable_bytes());
  for (Slot& other : slots_) {
    const bool under_way = other.chain.has_value() && &other != &slot &&
                           other.type != static_cast<uint8_t>(Type::kFlush);
    if (!in.ok() || !under_way || other.tag != old_tag) continue;
    // What is being done is not undone; its answer comes first.
    other.flushes.push_back(&slot);
    return;
  }
  Finish(slot);
}

void P9Device::OnWorkerDone(Slot& slot) {
  {
    const MutexLock lock(done_mutex_);
    done_.push_back(&slot);
    if (done_.size() > 1) return;  // the loop is told already
  }
  loop_.Post([weak = std::weak_ptr(self_)] {
    if (const auto self = weak.lock()) (*self)->OnDone();
  });
}

void P9Device::FinishDone() {
  std::vector<Slot*> done;
  {
    const MutexLock lock(done_mutex_);
    done.swap(done_);
  }
  for (Slot* const slot : done) Finish(*slot);
}

void P9Device::OnDone() {
  FinishDone();
  if (stopping_) {
    if (queue_) queue_->Flush();
  } else {
    ProcessQueue();
  }
}

void P9Device::Finish(Slot& slot) {
  virtio::SliceWriter writer(slot.chain->writable());
  uint32_t written = 0;
  if (!slot.answer.bytes.empty() && writer.Write(slot.answer.bytes)) {
    written = static_cast<uint32_t>(slot.answer.bytes.size()) + slot.answer.data_bytes;
  }
  queue_->Complete(std::move(*slot.chain), written);
  slot.chain.reset();
  std::vector<Slot*> flushes = std::exchange(slot.flushes, {});
  free_.push_back(&slot);
  for (Slot* const flush : flushes) Finish(*flush);
  gate_.Leave();
}

}  // namespace crosvm::devices::p9

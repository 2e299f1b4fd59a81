#include "devices/fs/fs_device.h"

#include <pthread.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cstring>
#include <latch>
#include <mutex>

#include "base/check.h"
#include "base/log.h"
#include "event/blocked_signals.h"
#include "virtio/types.h"

namespace crosvm::devices::fs {
namespace {

// Of epoll's data; below are indices of queues.
constexpr uint64_t kMore = UINT32_MAX;
constexpr uint64_t kQuit = kMore + 1;

Status Watch(const sys::UniqueFd& epoll, sys::BorrowedFd fd, uint32_t events, uint64_t what) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = what;
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd.get(), &event) != 0) {
    return FailErrno("watching a queue");
  }
  return {};
}

}  // namespace

FsDevice::FsDevice(event::EventLoop& loop, std::unique_ptr<Server> server,
                   const DeviceOptions& options)
    : loop_(loop), server_(std::move(server)) {
  CHECK(options.tag.size() <= sizeof(config_.tag) && options.request_queues > 0 &&
        options.request_queues <= kMaxRequestQueues && options.workers > 0 &&
        options.workers <= kMaxWorkers);
  memcpy(config_.tag, options.tag.data(), options.tag.size());
  config_.num_request_queues = options.request_queues;
  info_.device_id = VIRTIO_ID_FS;
  info_.features = virtio::kQueueFeatures;
  info_.queue_sizes.assign(1 + options.request_queues, kQueueSize);
  info_.config_size = sizeof(config_);
  if (options.dax_window > 0) {
    info_.shared_memory = {{.id = VIRTIO_FS_SHMCAP_ID_CACHE, .size = options.dax_window}};
  }
  for (size_t i = 0; i < info_.queue_sizes.size(); ++i) {
    slots_.push_back(std::make_unique<QueueSlot>());
  }
}

Result<std::unique_ptr<FsDevice>> FsDevice::Create(event::EventLoop& loop,
                                                   std::unique_ptr<Server> server,
                                                   const DeviceOptions& options) {
  // The threads have their part in it: they may run on when this fails half way.
  struct Entering {
    explicit Entering(uint32_t workers) : ready(workers) {}
    std::latch ready;
    Mutex mutex;
    Status status CROSVM_GUARDED_BY(mutex);
  };
  const auto entering = std::make_shared<Entering>(options.workers);
  std::unique_ptr<FsDevice> device(new FsDevice(loop, std::move(server), options));
  device->more_ = TRY(sys::EventFd::CreatePrivate());
  device->quit_ = TRY(sys::EventFd::CreatePrivate());
  {
    const event::BlockedSignals blocked;
    for (uint32_t i = 0; i < options.workers; ++i) {
      auto worker = std::make_unique<Worker>();
      worker->epoll = sys::UniqueFd(epoll_create1(EPOLL_CLOEXEC));
      if (!worker->epoll.valid()) return FailErrno("making a worker's epoll");
      TRY(Watch(worker->epoll, device->quit_.fd(), EPOLLIN, kQuit));
      TRY(Watch(worker->epoll, device->more_.fd(), EPOLLIN | EPOLLET | EPOLLEXCLUSIVE, kMore));
      Worker* const raw = worker.get();
      raw->thread = std::thread([raw, entering, self = device.get()] {
        pthread_setname_np(pthread_self(), "fs worker");
        {
          Status status = shared_dir::EnterWorkerThread(self->server_->share().self_fds());
          MutexLock lock(entering->mutex);
          if (!status.has_value()) entering->status = std::move(status);
        }
        entering->ready.count_down();
        self->Work(*raw);
      });
      device->workers_.push_back(std::move(worker));
    }
  }
  entering->ready.wait();
  MutexLock lock(entering->mutex);
  TRY(std::move(entering->status));
  return device;
}

FsDevice::~FsDevice() {
  ending_ = true;
  quit_.Signal();
  for (const std::unique_ptr<Worker>& worker : workers_) {
    if (worker->thread.joinable()) worker->thread.join();
  }
  // A device that is destroyed with its queues running (the connection is gone) owes nothing.
  for (const std::unique_ptr<QueueSlot>& slot : slots_) {
    MutexLock lock(slot->mutex);
    while (!slot->ahead.empty()) {
      slot->queue->Undo(std::move(slot->ahead.back().chain));
      slot->ahead.pop_back();
    }
  }
}

void FsDevice::ReadConfig(uint32_t offset, std::span<uint8_t> data) {
  CHECK(offset + data.size() <= sizeof(config_));
  // SAFETY: a packed struct of bytes and a little-endian integer.
  memcpy(data.data(), reinterpret_cast<const uint8_t*>(&config_) + offset, data.size());
}

void FsDevice::WriteConfig(uint32_t, std::span<const uint8_t>) {
}

void FsDevice::Configure(uint64_t) {
}

void FsDevice::Reset() {
  // The first reset of a process is the front-end's greeting. What a predecessor left is still
  // valid then: the guest did not notice that it died.
  if (std::exchange(started_, false)) server_->Forget();
}

void FsDevice::SetSharedMemory(std::shared_ptr<virtio::SharedMemoryMapper> mapper) {
  server_->SetWindow(std::move(mapper));
}

Status FsDevice::StartQueue(uint16_t index, virtio::Queue queue) {
  QueueSlot& slot = *slots_[index];
  {
    MutexLock lock(slot.mutex);
    CHECK(!slot.queue);
    slot.queue = std::move(queue);
    // A program that writes a file out of what it has mapped of another, or reads into that: the
    // window is in nobody's reach but the guest's processors'.
    if (!info_.shared_memory.empty()) slot.queue->AcceptUnreachable();
    for (size_t i = 0; i < workers_.size(); ++i) {
      const Status watched = Watch(workers_[i]->epoll, slot.queue->kick().fd(),
                                   EPOLLIN | EPOLLET | EPOLLEXCLUSIVE, index);
      if (!watched.has_value()) {
        for (size_t k = 0; k < i; ++k) {
          epoll_ctl(workers_[k]->epoll.get(), EPOLL_CTL_DEL, slot.queue->kick().fd().get(),
                    nullptr);
        }
        slot.queue.reset();
        return std::unexpected(watched.error().Clone());
      }
    }
  }
  started_ = true;
  // What is available now comes without a kick.
  more_.Signal();
  return {};
}

void FsDevice::StopQueue(uint16_t index, std::function<void(virtio::Queue)> done) {
  QueueSlot& slot = *slots_[index];
  MutexLock lock(slot.mutex);
  CHECK(slot.queue && !slot.stopped);
  for (const std::unique_ptr<Worker>& worker : workers_) {
    epoll_ctl(worker->epoll.get(), EPOLL_CTL_DEL, slot.queue->kick().fd().get(), nullptr);
  }
  while (!slot.ahead.empty()) {
    slot.queue->Undo(std::move(slot.ahead.back().chain));
    slot.ahead.pop_back();
    --ahead_;
  }
  slot.stopped = std::move(done);
  if (slot.busy == 0) FinishStop(slot);
}

void FsDevice::FinishStop(QueueSlot& slot) {
  auto queue = std::make_shared<virtio::Queue>(*std::exchange(slot.queue, std::nullopt));
  queue->Flush();
  auto done = std::exchange(slot.stopped, nullptr);
  loop_.Post([queue, done = std::move(done)] { done(std::move(*queue)); });
}

std::optional<FsDevice::QueueSlot::Taken> FsDevice::Take(QueueSlot& slot) {
  if (!slot.queue || slot.stopped || ending_) return std::nullopt;
  if (!slot.ahead.empty()) {
    QueueSlot::Taken taken = std::move(slot.ahead.front());
    slot.ahead.pop_front();
    --ahead_;
    return taken;
  }
  const bool recovered = slot.queue->recovery_pending();
  std::optional<virtio::Chain> chain = slot.queue->Pop();
  if (!chain) return std::nullopt;
  return QueueSlot::Taken{.chain = std::move(*chain), .recovered = recovered};
}

std::optional<FsDevice::QueueSlot::Taken> FsDevice::TakeAndLookAhead(QueueSlot& slot) {
  std::optional<QueueSlot::Taken> taken = Take(slot);
  if (!taken) return std::nullopt;
  ++slot.busy;
  if (slot.ahead.empty()) {
    if (std::optional<QueueSlot::Taken> next = Take(slot)) {
      slot.ahead.push_back(std::move(*next));
      ++ahead_;
    }
  }
  return taken;
}

void FsDevice::Work(Worker& worker) {
  constexpr int kEvents = 8;
  epoll_event events[kEvents];
  while (!ending_) {
    if (Look(worker)) {
      WorkOnAll(worker);
      continue;
    }
    // ORDERING: sequentially consistent. Either we see the chain that was put by, or who put it by
    // sees us asleep.
    ++idle_;
    worker.poll.WorkRanOut(event::Clock::now());
    const int count = epoll_wait(worker.epoll.get(), events, kEvents, ahead_ > 0 ? 0 : -1);
    worker.poll.WorkCame(event::Clock::now());
    --idle_;
    if (count == 0) {
      WorkOnAll(worker);
      continue;
    }
    if (count < 0) {
      if (errno == EINTR) continue;
      LOG_ERROR("a worker cannot wait: {}", strerror(errno));
      return;
    }
    for (int i = 0; i < count; ++i) {
      const uint64_t what = events[i].data.u64;
      if (what == kQuit) return;
      if (what == kMore) {
        WorkOnAll(worker);
      } else {
        WorkOn(worker, *slots_[what]);
      }
    }
  }
}

template <typename Do>
void FsDevice::ForEachRunning(Do work) {
  for (const std::unique_ptr<QueueSlot>& slot : slots_) {
    MutexLock lock(slot->mutex);
    if (slot->queue && !slot->stopped) work(*slot->queue);
  }
}

bool FsDevice::Look(Worker& worker) {
  if (worker.poll.window() == event::Clock::duration::zero()) return false;
  // ORDERING: sequentially consistent. Who finds a colleague looking has found its queues empty
  // before that one lets go, and asks for notifications after it.
  if (looking_.exchange(true)) return false;
  ForEachRunning([](virtio::Queue& queue) { queue.SuppressNotifications(); });
  bool found = false;
  worker.poll.Until([this, &found] {
    ForEachRunning([&found](virtio::Queue& queue) { found = found || queue.HasAvailable(); });
    return found;
  });
  looking_ = false;
  ForEachRunning([&found](virtio::Queue& queue) {
    if (queue.EnableNotifications()) found = true;
  });
  if (found) worker.poll.WorkCame(event::Clock::now());
  return found;
}

void FsDevice::WorkOnAll(Worker& worker) {
  for (const std::unique_ptr<QueueSlot>& slot : slots_) WorkOn(worker, *slot);
}

void FsDevice::WorkOn(Worker& worker, QueueSlot& slot) {
  std::shared_ptr<sys::EventFd> interrupt;
  slot.mutex.Lock();
  while (true) {
    std::optional<QueueSlot::Taken> taken = TakeAndLookAhead(slot);
    // With nobody asleep there is nobody to wake: who is done first looks for what waits before it
    // sleeps.
    const bool wake = taken && !slot.ahead.empty() && idle_ > 0;
    slot.mutex.Unlock();
    // System calls, during which no colleague shall have to wait for the lock.
    if (interrupt) interrupt->Signal();
    if (!taken) return;
    if (wake) more_.Signal();
    const virtio::Chain& chain = taken->chain;
    const uint32_t written =
        chain.unreachable()
            ? Server::AnswerUnreachable(chain.readable(), chain.writable(), worker.place)
            : server_->Handle(chain.readable(), chain.writable(), worker.place, taken->recovered);
    slot.mutex.Lock();
    slot.queue->Complete(std::move(taken->chain), written);
    interrupt = slot.queue->Publish() ? slot.queue->call_handle() : nullptr;
    Server::Answered(worker.place);
    --slot.busy;
    if (slot.stopped && slot.busy == 0) FinishStop(slot);
  }
}

}  // namespace crosvm::devices::fs

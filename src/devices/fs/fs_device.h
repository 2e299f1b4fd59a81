// virtio-fs (virtio 1.2, 5.11): one queue for what must not wait (forgetting), others for requests.
// Lives in the fs process. The device's calls come on the thread of its loop; the requests are
// worked on by a pool of threads that serve all queues.
//
// Every worker sleeps in an epoll of its own that has the kick of every queue, exclusively and
// edge-triggered: a kick wakes one of those that sleep, and no descriptor has to be read. Before
// they sleep, one of them looks for more in memory for a while (event/busy_poll.h). A worker takes
// a chain, and when another one waits behind it, wakes a colleague for that; carries out the
// request without any lock; completes it. A queue's lock is held for taking and completing alone.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "devices/fs/fs_wire.h"
#include "devices/fs/server.h"
#include "event/busy_poll.h"
#include "event/event_loop.h"
#include "sys/epoll.h"
#include "sys/event_fd.h"
#include "virtio/device.h"

namespace crosvm::devices::fs {

struct DeviceOptions {
  std::string tag;  // at most 36 bytes
  uint32_t request_queues = 1;
  uint32_t workers = 2;
  uint64_t dax_window = 0;  // as ServerOptions::dax_window
};

class FsDevice : public virtio::Device {
 public:
  // Starts the workers, before the seccomp filter: what they set up for themselves is in no policy.
  static Result<std::unique_ptr<FsDevice>> Create(event::EventLoop& loop,
                                                  std::unique_ptr<Server> server,
                                                  const DeviceOptions& options);
  ~FsDevice() override;

  const virtio::DeviceInfo& info() const override { return info_; }
  void ReadConfig(uint32_t offset, std::span<uint8_t> data) override;
  void WriteConfig(uint32_t offset, std::span<const uint8_t> data) override;
  void Configure(uint64_t features) override;
  Status StartQueue(uint16_t index, virtio::Queue queue) override;
  void StopQueue(uint16_t index, std::function<void(virtio::Queue)> done) override;
  void Reset() override;
  void SetSharedMemory(std::shared_ptr<virtio::SharedMemoryMapper> mapper) override;

 private:
  struct QueueSlot {
    Mutex mutex;
    std::optional<virtio::Queue> queue CROSVM_GUARDED_BY(mutex);
    // Taken, and nobody works on it yet.
    struct Taken {
      virtio::Chain chain;
      bool recovered = false;
    };
    std::deque<Taken> ahead CROSVM_GUARDED_BY(mutex);
    uint32_t busy CROSVM_GUARDED_BY(mutex) = 0;
    std::function<void(virtio::Queue)> stopped CROSVM_GUARDED_BY(mutex);  // set: takes no more
  };
  struct Worker {
    Server::Worker place;
    event::BusyPoll poll;
    sys::UniqueFd epoll;
    std::thread thread;
  };

  FsDevice(event::EventLoop& loop, std::unique_ptr<Server> server, const DeviceOptions& options);
  void Work(Worker& worker);
  void WorkOn(Worker& worker, QueueSlot& slot);
  void WorkOnAll(Worker& worker);
  // Looks for work for a while, without notifications, unless a colleague does. True: there may be
  // some. Notifications are on when it returns and nobody looks.
  bool Look(Worker& worker);
  // Each under its lock.
  template <typename Do>
  void ForEachRunning(Do work);
  std::optional<QueueSlot::Taken> Take(QueueSlot& slot) CROSVM_REQUIRES(slot.mutex);
  // Take(), and when another one waits behind it, that into `ahead`, for a colleague.
  std::optional<QueueSlot::Taken> TakeAndLookAhead(QueueSlot& slot) CROSVM_REQUIRES(slot.mutex);
  void FinishStop(QueueSlot& slot) CROSVM_REQUIRES(slot.mutex);

  event::EventLoop& loop_;
  const std::unique_ptr<Server> server_;
  virtio::DeviceInfo info_;
  virtio_fs_config config_{};
  std::vector<std::unique_ptr<QueueSlot>> slots_;
  std::vector<std::unique_ptr<Worker>> workers_;
  sys::EventFd more_;  // a chain waits in some queue's `ahead`
  sys::EventFd quit_;
  std::atomic<bool> ending_{false};   // no chain is taken any more, however many a driver brings
  std::atomic<uint32_t> ahead_{0};    // chains in all queues' `ahead`
  std::atomic<bool> looking_{false};  // a worker looks for more before it sleeps
  std::atomic<uint32_t> idle_{0};     // workers that sleep, or are about to
  bool started_ = false;              // a queue has run since the process began
};

}  // namespace crosvm::devices::fs

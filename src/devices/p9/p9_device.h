// virtio-9p (virtio 1.2's reserved device 9, as Linux drives it): one queue of 9P messages, each a
// chain with the request in its readable part and room for the answer in its writable one. File
// data moves between the host's file and the guest's buffers without a copy in between.
// Lives in the p9 process; requests are worked on by a pool of threads, all else happens on the
// loop.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "devices/p9/p9_server.h"
#include "event/event_loop.h"
#include "event/gate.h"
#include "event/thread_pool.h"
#include "virtio/device.h"

namespace crosvm::devices::p9 {

struct DeviceOptions {
  std::string tag;
  size_t threads = 4;
};

class P9Device : public virtio::Device {
 public:
  // Starts the threads, before the seccomp filter: what they set up for themselves is in no policy.
  static Result<std::unique_ptr<P9Device>> Create(event::EventLoop& loop,
                                                  std::unique_ptr<shared_dir::Share> share,
                                                  std::unique_ptr<Server> server,
                                                  const DeviceOptions& options);
  ~P9Device() override;

  const virtio::DeviceInfo& info() const override { return info_; }
  void ReadConfig(uint32_t offset, std::span<uint8_t> data) override;
  void WriteConfig(uint32_t offset, std::span<const uint8_t> data) override;
  void Configure(uint64_t features) override;
  Status StartQueue(uint16_t index, virtio::Queue queue) override;
  void StopQueue(uint16_t index, std::function<void(virtio::Queue)> done) override;
  void Reset() override;

 private:
  struct Slot;

  P9Device(event::EventLoop& loop, std::unique_ptr<shared_dir::Share> share,
           std::unique_ptr<Server> server, const DeviceOptions& options);

  void ProcessQueue();
  // Reads the chain's message into the slot; false: answered already (it is damaged).
  bool ReadMessage(Slot& slot);
  void Start(Slot& slot);
  // Answered when what it flushes has been.
  void Flush(Slot& slot);
  void OnWorkerDone(Slot& slot);  // on a worker
  void OnDone();
  void FinishDone();
  void Finish(Slot& slot);

  event::EventLoop& loop_;
  const std::unique_ptr<shared_dir::Share> share_;
  const std::unique_ptr<Server> server_;
  virtio::DeviceInfo info_;
  std::vector<uint8_t> config_;
  std::optional<virtio::Queue> queue_;
  event::Watch kick_;
  event::Timer again_;
  event::Gate gate_;
  bool stopping_ = false;
  std::deque<Slot> slots_;
  std::vector<Slot*> free_;
  Mutex done_mutex_;
  std::vector<Slot*> done_ CROSVM_GUARDED_BY(done_mutex_);
  // For work posted by the threads.
  std::shared_ptr<P9Device*> self_;
  // Ends before all else: its threads use it.
  std::unique_ptr<event::ThreadPool> pool_;
};

}  // namespace crosvm::devices::p9

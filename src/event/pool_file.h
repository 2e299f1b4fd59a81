// AsyncFile by threads that block. The thread count bounds what the host does at a time; more is
// queued.
#pragma once

#include "base/mutex.h"
#include "event/async_file.h"
#include "event/thread_pool.h"
#include "sys/event_fd.h"

namespace crosvm::event {

class PoolFile : public AsyncFile {
 public:
  static Result<std::unique_ptr<AsyncFile>> Open(EventLoop& loop, sys::UniqueFd file,
                                                 const AsyncFileOptions& options);
  ~PoolFile() override;

  void Submit(IoOp& op) override;
  void Flush() override {}
  size_t in_flight() const override { return in_flight_; }
  const char* engine() const override { return "pool"; }

 private:
  PoolFile() = default;
  void RunOp(IoOp& op);  // on a worker
  void OnDone();

  sys::UniqueFd file_;
  size_t in_flight_ = 0;
  // Set while callbacks run; told when one of them destroys this object.
  bool* destroyed_ = nullptr;
  sys::EventFd done_event_;
  Mutex mutex_;
  // A list through IoOp::internal.next, newest first.
  IoOp* done_ CROSVM_GUARDED_BY(mutex_) = nullptr;
  Watch watch_;
  // Last, so that its threads end before what they use is gone.
  std::unique_ptr<ThreadPool> pool_;
};

}  // namespace crosvm::event

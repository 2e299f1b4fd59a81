// Threads for calls that may block (file I/O without io_uring, name lookups). Results go back to a
// loop by EventLoop::Post().
#pragma once

#include <pthread.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"

namespace crosvm::event {

class ThreadPool {
 public:
  using Job = std::function<void()>;

  // All threads are made here, so that a seccomp filter set later need not allow it. They take no
  // signals but those of faults. `name` is shown by ps, at most 15 bytes.
  static Result<std::unique_ptr<ThreadPool>> Create(size_t threads, const std::string& name);
  // Runs what is queued, then ends the threads.
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Runs `job` on some thread of the pool. Jobs are started in the order of the calls. Any thread.
  void Run(Job job);

 private:
  ThreadPool() = default;
  static void* ThreadMain(void* pool);
  void Work();

  Mutex mutex_;
  CondVar changed_;
  std::deque<Job> jobs_ CROSVM_GUARDED_BY(mutex_);
  bool stopping_ CROSVM_GUARDED_BY(mutex_) = false;
  std::vector<pthread_t> threads_;
};

}  // namespace crosvm::event

#include "event/thread_pool.h"

#include "base/check.h"
#include "event/blocked_signals.h"

namespace crosvm::event {

Result<std::unique_ptr<ThreadPool>> ThreadPool::Create(size_t threads, const std::string& name) {
  CHECK(threads > 0);
  std::unique_ptr<ThreadPool> pool(new ThreadPool);
  const BlockedSignals blocked;
  for (size_t i = 0; i < threads; ++i) {
    pthread_t thread{};
    if (const int err = pthread_create(&thread, nullptr, &ThreadMain, pool.get()); err != 0) {
      return std::unexpected(Error::FromErrno(err, "starting a worker thread"));
    }
    // A name too long to be shown is cut; there is nothing else to fail.
    pthread_setname_np(thread, name.substr(0, 15).c_str());
    pool->threads_.push_back(thread);
  }
  return pool;
}

ThreadPool::~ThreadPool() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.NotifyAll();
  for (const pthread_t thread : threads_) CHECK(pthread_join(thread, nullptr) == 0);
}

void ThreadPool::Run(Job job) {
  {
    MutexLock lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  changed_.NotifyOne();
}

void* ThreadPool::ThreadMain(void* pool) {
  static_cast<ThreadPool*>(pool)->Work();
  return nullptr;
}

void ThreadPool::Work() {
  while (true) {
    Job job;
    {
      MutexLock lock(mutex_);
      while (jobs_.empty() && !stopping_) changed_.Wait(mutex_);
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

}  // namespace crosvm::event

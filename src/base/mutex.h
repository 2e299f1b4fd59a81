// std::mutex with clang's thread-safety annotations (libstdc++'s has none), so that an unlocked
// access to a guarded member is a compile error in the shipping build.
#pragma once

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define CROSVM_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define CROSVM_THREAD_ANNOTATION(x)
#endif

#define CROSVM_CAPABILITY(x) CROSVM_THREAD_ANNOTATION(capability(x))
#define CROSVM_SCOPED_CAPABILITY CROSVM_THREAD_ANNOTATION(scoped_lockable)
#define CROSVM_GUARDED_BY(x) CROSVM_THREAD_ANNOTATION(guarded_by(x))
#define CROSVM_REQUIRES(...) CROSVM_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define CROSVM_ACQUIRE(...) CROSVM_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define CROSVM_RELEASE(...) CROSVM_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define CROSVM_EXCLUDES(...) CROSVM_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define CROSVM_NO_THREAD_SAFETY_ANALYSIS CROSVM_THREAD_ANNOTATION(no_thread_safety_analysis)

namespace crosvm {

class CROSVM_CAPABILITY("mutex") Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() CROSVM_ACQUIRE() { mutex_.lock(); }
  void Unlock() CROSVM_RELEASE() { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class CROSVM_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) CROSVM_ACQUIRE(mutex) : mutex_(mutex) { mutex_.Lock(); }
  ~MutexLock() CROSVM_RELEASE() { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

class CondVar {
 public:
  // The mutex is released while waiting and held again on return. Spurious returns happen: wait in
  // a loop.
  void Wait(Mutex& mutex) CROSVM_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }
  // As Wait; false when `duration` ran out first.
  template <typename Duration>
  bool WaitFor(Mutex& mutex, Duration duration) CROSVM_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    const bool in_time = condition_.wait_for(lock, duration) == std::cv_status::no_timeout;
    lock.release();
    return in_time;
  }
  void NotifyOne() { condition_.notify_one(); }
  void NotifyAll() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace crosvm

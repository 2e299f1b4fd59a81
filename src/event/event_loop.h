// The loop of one thread: descriptors, timers and posted work, on epoll and one timerfd. Everything
// a loop owns is touched on its thread only; Post() and Stop() alone may be called from others.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/result.h"
#include "sys/fd.h"

namespace crosvm::event {

using Clock = std::chrono::steady_clock;

enum class Interest : uint8_t { kNone = 0, kRead = 1, kWrite = 2, kReadWrite = 3 };

struct Ready {
  bool readable = false;
  bool writable = false;
  bool hangup =
      false;  // EPOLLHUP or EPOLLERR; reported whatever the interest is, unless that is kNone
};

class EventLoop;

// Owner of a watch. Once it is destroyed the callback is not called any more, even when its event
// was already taken from the kernel. May be destroyed inside its own callback.
class [[nodiscard]] Watch {
 public:
  Watch() = default;
  Watch(Watch&&) noexcept;
  Watch& operator=(Watch&&) noexcept;
  ~Watch();

  bool active() const { return loop_ != nullptr; }
  // kNone keeps the watch but silences it wholly, hangups included (back-pressure).
  void SetInterest(Interest interest);
  void Reset();

 private:
  friend class EventLoop;
  Watch(EventLoop* loop, uint64_t id) : loop_(loop), id_(id) {}
  EventLoop* loop_ = nullptr;
  uint64_t id_ = 0;
};

// Owner of a timer; destroying it cancels. May be destroyed inside its own callback.
class [[nodiscard]] Timer {
 public:
  Timer() = default;
  Timer(Timer&&) noexcept;
  Timer& operator=(Timer&&) noexcept;
  ~Timer();

  // False after Reset() or a move; a timer that has fired stays active.
  bool active() const { return loop_ != nullptr; }
  void Reset();

 private:
  friend class EventLoop;
  Timer(EventLoop* loop, uint64_t id) : loop_(loop), id_(id) {}
  EventLoop* loop_ = nullptr;
  uint64_t id_ = 0;
};

class EventLoop {
 public:
  using ReadyCallback = std::function<void(Ready)>;
  using Callback = std::function<void()>;

  static Result<std::unique_ptr<EventLoop>> Create();
  // Every Watch and Timer is gone by then. Work posted and not yet run is dropped.
  virtual ~EventLoop();

  // `fd` stays open for as long as the Watch lives. Fails for what epoll cannot wait for (regular
  // files) and for a descriptor that this loop watches already.
  virtual Result<Watch> AddWatch(sys::BorrowedFd fd, Interest interest, ReadyCallback callback) = 0;
  // Fires once.
  virtual Timer AddTimer(Clock::time_point deadline, Callback callback) = 0;
  Timer AddTimer(Clock::duration delay, Callback callback) {
    return AddTimer(Now() + delay, std::move(callback));
  }
  virtual Clock::time_point Now() const = 0;

  // Runs `callback` on the loop's thread, soon, after what was posted before. Any thread.
  virtual void Post(Callback callback) = 0;
  // Makes Run() return after the current callback. Any thread.
  virtual void Stop() = 0;
  // Dispatches until Stop().
  virtual Status Run() = 0;
  // Dispatches what is ready now; waits at most `timeout` for the first event. For tests and
  // draining.
  virtual Status RunOnce(Clock::duration timeout) = 0;

 protected:
  friend class Watch;
  friend class Timer;
  virtual void SetWatchInterest(uint64_t id, Interest interest) = 0;
  virtual void RemoveWatch(uint64_t id) = 0;
  virtual void RemoveTimer(uint64_t id) = 0;
  Watch MakeWatch(uint64_t id) { return Watch(this, id); }
  Timer MakeTimer(uint64_t id) { return Timer(this, id); }
};

}  // namespace crosvm::event

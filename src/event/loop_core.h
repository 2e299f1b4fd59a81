// What the real loop and the test loop have in common: watches on epoll, timers in deadline order,
// and posted work. They differ in whose clock the timers follow. Only event/ includes this.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "event/event_loop.h"
#include "sys/epoll.h"
#include "sys/event_fd.h"
#include "sys/timer_fd.h"

namespace crosvm::event {

class LoopCore : public EventLoop {
 public:
  ~LoopCore() override;

  using EventLoop::AddTimer;
  Result<Watch> AddWatch(sys::BorrowedFd fd, Interest interest, ReadyCallback callback) override;
  Timer AddTimer(Clock::time_point deadline, Callback callback) override;
  void Post(Callback callback) override;
  void Stop() override;
  Status Run() override;
  Status RunOnce(Clock::duration timeout) override;

 protected:
  enum class OnStop : uint8_t { kReturn, kIgnore };

  LoopCore() = default;
  Status Init();

  // Waits at most `timeout_ms` (-1: for ever) for the first event, dispatches what is ready; the
  // number of callbacks run.
  Result<size_t> Dispatch(int timeout_ms, OnStop on_stop);
  // Runs the timers due at Now().
  size_t RunTimers(OnStop on_stop);
  std::optional<Clock::time_point> NextDeadline() const;

  // Sees to it that a wait ends at the first deadline; called before each wait. TestLoop does
  // nothing.
  virtual void ArmTimer(std::optional<Clock::time_point> deadline) = 0;
  // The descriptor became readable that ArmTimer() armed.
  virtual void OnTimerFd() = 0;
  Status WatchTimerFd(sys::BorrowedFd fd);

 private:
  struct WatchState {
    sys::BorrowedFd fd;
    Interest interest = Interest::kNone;
    ReadyCallback callback;
  };
  using TimerKey = std::pair<Clock::time_point, uint64_t>;

  void SetWatchInterest(uint64_t id, Interest interest) override;
  void RemoveWatch(uint64_t id) override;
  void RemoveTimer(uint64_t id) override;

  size_t RunWatch(uint64_t id, uint32_t events);
  size_t RunPosted(OnStop on_stop);
  bool ShouldReturn(OnStop on_stop) const;
  Status ApplyInterest(uint64_t id, WatchState& state, Interest interest);

  sys::Epoll epoll_;
  sys::EventFd wake_;
  std::atomic<bool> stop_{false};
  // Ids are never used twice, so an event taken from the kernel for a watch that is gone finds
  // nobody.
  uint64_t next_id_ = 2;
  std::unordered_map<uint64_t, std::unique_ptr<WatchState>> watches_;
  std::map<TimerKey, Callback> timers_;
  std::unordered_map<uint64_t, Clock::time_point> timer_deadlines_;
  // Callbacks that removed themselves stay alive until no dispatch is on the stack.
  int dispatch_depth_ = 0;
  std::vector<std::unique_ptr<WatchState>> removed_watches_;
  // Taken from posted_ and not yet run.
  std::deque<Callback> due_;
  Mutex mutex_;
  std::vector<Callback> posted_ CROSVM_GUARDED_BY(mutex_);
};

}  // namespace crosvm::event

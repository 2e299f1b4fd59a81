// A one-shot timer that any thread may set and whose callback runs on the thread of an EventLoop:
// timers of devices whose registers are written by vCPU threads.
#pragma once

#include <functional>
#include <memory>

#include "event/event_loop.h"

namespace crosvm::platform {

class RemoteTimer {
 public:
  // Made on any thread; destroyed on the loop's thread, after which `callback` is not called any
  // more.
  RemoteTimer(event::EventLoop& loop, std::function<void()> callback);
  ~RemoteTimer();
  RemoteTimer(const RemoteTimer&) = delete;
  RemoteTimer& operator=(const RemoteTimer&) = delete;

  // Replaces what was set. `delay` counts from the loop's Now() at the time it hears of it.
  void Set(event::Clock::duration delay);
  // The callback may still run once if it is already under way.
  void Cancel();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace crosvm::platform

#include "platform/remote_timer.h"

#include <optional>
#include <utility>

#include "base/mutex.h"

namespace crosvm::platform {

struct RemoteTimer::State : std::enable_shared_from_this<RemoteTimer::State> {
  State(event::EventLoop& event_loop, std::function<void()> on_fire)
      : loop(event_loop), callback(std::move(on_fire)) {}

  void Change(std::optional<event::Clock::duration> delay);
  // The loop's thread.
  void Apply();

  event::EventLoop& loop;
  const std::function<void()> callback;
  event::Timer timer;  // the loop's thread

  Mutex mutex;
  std::optional<event::Clock::duration> wanted CROSVM_GUARDED_BY(mutex);
  bool posted CROSVM_GUARDED_BY(mutex) = false;
};

void RemoteTimer::State::Change(std::optional<event::Clock::duration> delay) {
  const MutexLock lock(mutex);
  wanted = delay;
  // However often a guest writes the register, at most one message is under way.
  if (std::exchange(posted, true)) return;
  loop.Post([weak = weak_from_this()] {
    if (const std::shared_ptr<State> state = weak.lock()) state->Apply();
  });
}

void RemoteTimer::State::Apply() {
  const MutexLock lock(mutex);
  posted = false;
  timer.Reset();
  if (!wanted) return;
  timer = loop.AddTimer(*std::exchange(wanted, std::nullopt), [weak = weak_from_this()] {
    const std::shared_ptr<State> state = weak.lock();
    if (state != nullptr) state->callback();
  });
}

RemoteTimer::RemoteTimer(event::EventLoop& loop, std::function<void()> callback)
    : state_(std::make_shared<State>(loop, std::move(callback))) {
}
RemoteTimer::~RemoteTimer() = default;

void RemoteTimer::Set(event::Clock::duration delay) {
  state_->Change(delay);
}
void RemoteTimer::Cancel() {
  state_->Change(std::nullopt);
}

}  // namespace crosvm::platform

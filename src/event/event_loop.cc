#include "event/event_loop.h"

#include "event/loop_core.h"

namespace crosvm::event {
namespace {

// Timers follow the host's monotonic clock by one timerfd.
class RealLoop : public LoopCore {
 public:
  static Result<std::unique_ptr<EventLoop>> Make() {
    auto loop = std::make_unique<RealLoop>();
    TRY(loop->Init());
    loop->timer_fd_ = TRY(sys::TimerFd::Create());
    TRY(loop->WatchTimerFd(loop->timer_fd_.fd()));
    return loop;
  }

  Clock::time_point Now() const override { return Clock::now(); }

 private:
  void ArmTimer(std::optional<Clock::time_point> deadline) override {
    if (deadline == armed_) return;
    if (deadline) {
      timer_fd_.SetDeadline(*deadline);
    } else {
      timer_fd_.Cancel();
    }
    armed_ = deadline;
  }
  void OnTimerFd() override {
    timer_fd_.Drain();
    armed_.reset();
  }

  sys::TimerFd timer_fd_;
  std::optional<Clock::time_point> armed_;
};

}  // namespace

Watch::Watch(Watch&& other) noexcept : loop_(std::exchange(other.loop_, nullptr)), id_(other.id_) {
}

Watch& Watch::operator=(Watch&& other) noexcept {
  if (this != &other) {
    Reset();
    loop_ = std::exchange(other.loop_, nullptr);
    id_ = other.id_;
  }
  return *this;
}

Watch::~Watch() {
  Reset();
}

void Watch::SetInterest(Interest interest) {
  if (loop_ != nullptr) loop_->SetWatchInterest(id_, interest);
}

void Watch::Reset() {
  if (EventLoop* const loop = std::exchange(loop_, nullptr)) loop->RemoveWatch(id_);
}

Timer::Timer(Timer&& other) noexcept : loop_(std::exchange(other.loop_, nullptr)), id_(other.id_) {
}

Timer& Timer::operator=(Timer&& other) noexcept {
  if (this != &other) {
    Reset();
    loop_ = std::exchange(other.loop_, nullptr);
    id_ = other.id_;
  }
  return *this;
}

Timer::~Timer() {
  Reset();
}

void Timer::Reset() {
  if (EventLoop* const loop = std::exchange(loop_, nullptr)) loop->RemoveTimer(id_);
}

EventLoop::~EventLoop() = default;

Result<std::unique_ptr<EventLoop>> EventLoop::Create() {
  return RealLoop::Make();
}

}  // namespace crosvm::event

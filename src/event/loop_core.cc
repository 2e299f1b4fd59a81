#include "event/loop_core.h"

#include <array>
#include <limits>

#include "base/check.h"
#include "base/log.h"

namespace crosvm::event {
namespace {

constexpr uint64_t kWakeToken = 0;
constexpr uint64_t kTimerToken = 1;
constexpr size_t kEventsPerWait = 64;

bool Wants(Interest interest, Interest part) {
  return (static_cast<uint8_t>(interest) & static_cast<uint8_t>(part)) != 0;
}

uint32_t EpollEvents(Interest interest) {
  uint32_t events = 0;
  if (Wants(interest, Interest::kRead)) events |= EPOLLIN;
  if (Wants(interest, Interest::kWrite)) events |= EPOLLOUT;
  return events;
}

// The loop whose Dispatch() this thread is in, the innermost.
thread_local const LoopCore* dispatching = nullptr;

int ToMilliseconds(Clock::duration timeout) {
  // Rounded up: waking early would make a caller that waits for a deadline spin.
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(timeout).count();
  return static_cast<int>(std::clamp<int64_t>(ms, 0, std::numeric_limits<int>::max()));
}

}  // namespace

LoopCore::~LoopCore() {
  // Posted work may own watches and timers of this loop, and may post again as it goes.
  while (true) {
    std::vector<Callback> posted;
    {
      MutexLock lock(mutex_);
      posted.swap(posted_);
    }
    if (posted.empty() && due_.empty()) break;
    std::exchange(due_, {}).clear();
  }
  CHECK(watches_.empty(), "{} watches outlive their loop", watches_.size());
  CHECK(timers_.empty(), "{} timers outlive their loop", timers_.size());
}

Status LoopCore::Init() {
  epoll_ = TRY(sys::Epoll::Create());
  wake_ = TRY(sys::EventFd::CreatePrivate());
  return epoll_.Add(wake_.fd(), EPOLLIN, kWakeToken);
}

Status LoopCore::WatchTimerFd(sys::BorrowedFd fd) {
  return epoll_.Add(fd, EPOLLIN, kTimerToken);
}

Result<Watch> LoopCore::AddWatch(sys::BorrowedFd fd, Interest interest, ReadyCallback callback) {
  const uint64_t id = next_id_++;
  auto state = std::make_unique<WatchState>();
  state->fd = fd;
  state->callback = std::move(callback);
  TRY(ApplyInterest(id, *state, interest));
  watches_.emplace(id, std::move(state));
  return MakeWatch(id);
}

Status LoopCore::ApplyInterest(uint64_t id, WatchState& state, Interest interest) {
  if (interest == state.interest) return {};
  Status status;
  // A silent watch leaves epoll, which would report a hangup whatever it is asked for, again and
  // again.
  if (state.interest == Interest::kNone) {
    status = epoll_.Add(state.fd, EpollEvents(interest), id);
  } else if (interest == Interest::kNone) {
    status = epoll_.Remove(state.fd);
  } else {
    status = epoll_.Modify(state.fd, EpollEvents(interest), id);
  }
  if (status) state.interest = interest;
  return status;
}

void LoopCore::SetWatchInterest(uint64_t id, Interest interest) {
  const auto found = watches_.find(id);
  CHECK(found != watches_.end());
  // Only a descriptor closed under its watch, or a lack of memory, makes this fail.
  if (const Status status = ApplyInterest(id, *found->second, interest); !status) {
    LOG_ERROR("descriptor {}: {}", found->second->fd.get(), status.error().ToString());
  }
}

void LoopCore::RemoveWatch(uint64_t id) {
  const auto found = watches_.find(id);
  CHECK(found != watches_.end());
  std::unique_ptr<WatchState> state = std::move(found->second);
  watches_.erase(found);
  if (const Status status = ApplyInterest(id, *state, Interest::kNone); !status) {
    LOG_ERROR("descriptor {} was closed before its watch: {}", state->fd.get(),
              status.error().ToString());
  }
  if (dispatch_depth_ > 0) removed_watches_.push_back(std::move(state));
}

Timer LoopCore::AddTimer(Clock::time_point deadline, Callback callback) {
  const uint64_t id = next_id_++;
  timers_.emplace(TimerKey(deadline, id), std::move(callback));
  timer_deadlines_.emplace(id, deadline);
  return MakeTimer(id);
}

void LoopCore::RemoveTimer(uint64_t id) {
  const auto found = timer_deadlines_.find(id);
  if (found == timer_deadlines_.end()) return;  // it has fired
  // Out of the maps first: destroying the callback may come back here.
  auto node = timers_.extract(TimerKey(found->second, id));
  timer_deadlines_.erase(found);
}

std::optional<Clock::time_point> LoopCore::NextDeadline() const {
  if (timers_.empty()) return std::nullopt;
  return timers_.begin()->first.first;
}

void LoopCore::Post(Callback callback) {
  bool first = false;
  {
    MutexLock lock(mutex_);
    first = posted_.empty();
    // From the loop's own callbacks, unless others were before: there is nobody to wake.
    if (dispatching == this && first) {
      due_.push_back(std::move(callback));
      return;
    }
    posted_.push_back(std::move(callback));
  }
  if (first) wake_.Signal();
}

void LoopCore::Stop() {
  // ORDERING: release, so that Run()'s caller sees what the stopping thread did before.
  stop_.store(true, std::memory_order_release);
  wake_.Signal();
}

bool LoopCore::ShouldReturn(OnStop on_stop) const {
  // ORDERING: pairs with Stop().
  return on_stop == OnStop::kReturn && stop_.load(std::memory_order_acquire);
}

Status LoopCore::Run() {
  // ORDERING: pairs with Stop(); the exchange arms the next Run().
  while (!stop_.exchange(false, std::memory_order_acquire)) {
    TRY(Dispatch(-1, OnStop::kReturn));
  }
  return {};
}

Status LoopCore::RunOnce(Clock::duration timeout) {
  TRY(Dispatch(ToMilliseconds(timeout), OnStop::kIgnore));
  return {};
}

Result<size_t> LoopCore::Dispatch(int timeout_ms, OnStop on_stop) {
  ArmTimer(NextDeadline());
  std::array<epoll_event, kEventsPerWait> events;
  const size_t count = TRY(epoll_.Wait(events, due_.empty() ? timeout_ms : 0));
  ++dispatch_depth_;
  const LoopCore* const outer = std::exchange(dispatching, this);
  size_t ran = 0;
  for (size_t i = 0; i < count && !ShouldReturn(on_stop); ++i) {
    const uint64_t token = events[i].data.u64;
    if (token == kWakeToken) {
      wake_.Drain();
      MutexLock lock(mutex_);
      for (Callback& callback : posted_) due_.push_back(std::move(callback));
      posted_.clear();
    } else if (token == kTimerToken) {
      OnTimerFd();
    } else {
      ran += RunWatch(token, events[i].events);
    }
  }
  ran += RunTimers(on_stop);
  ran += RunPosted(on_stop);
  dispatching = outer;
  if (--dispatch_depth_ == 0 && !removed_watches_.empty()) {
    // Destroying a callback may remove further watches.
    std::exchange(removed_watches_, {}).clear();
  }
  return ran;
}

size_t LoopCore::RunWatch(uint64_t id, uint32_t events) {
  const auto found = watches_.find(id);
  if (found == watches_.end()) return 0;
  WatchState& state = *found->second;
  // The interest may have changed since the kernel was asked.
  const Ready ready{
      .readable = (events & EPOLLIN) != 0 && Wants(state.interest, Interest::kRead),
      .writable = (events & EPOLLOUT) != 0 && Wants(state.interest, Interest::kWrite),
      .hangup = (events & (EPOLLHUP | EPOLLERR)) != 0 && state.interest != Interest::kNone,
  };
  if (!ready.readable && !ready.writable && !ready.hangup) return 0;
  // `state` outlives the call even when the callback removes the watch: see RemoveWatch().
  state.callback(ready);
  return 1;
}

size_t LoopCore::RunTimers(OnStop on_stop) {
  if (timers_.empty()) return 0;
  const Clock::time_point now = Now();
  // Only those that are due now: one that callbacks add waits for the next round, so that no timer
  // can starve descriptors.
  std::vector<TimerKey> due;
  for (auto it = timers_.begin(); it != timers_.end() && it->first.first <= now; ++it) {
    due.push_back(it->first);
  }
  size_t ran = 0;
  for (const TimerKey& key : due) {
    if (ShouldReturn(on_stop)) break;
    auto node = timers_.extract(key);
    if (!node) continue;  // an earlier callback cancelled it
    timer_deadlines_.erase(key.second);
    node.mapped()();
    ++ran;
  }
  return ran;
}

size_t LoopCore::RunPosted(OnStop on_stop) {
  const size_t count = due_.size();
  size_t ran = 0;
  // A callback may run this loop again, which takes from due_ too: hence the second condition.
  while (ran < count && !due_.empty() && !ShouldReturn(on_stop)) {
    const Callback callback = std::move(due_.front());
    due_.pop_front();
    callback();
    ++ran;
  }
  return ran;
}

}  // namespace crosvm::event

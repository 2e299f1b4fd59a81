#include "chardev/fd_source.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "chardev/nonblocking.h"

namespace crosvm::chardev {
namespace {
constexpr size_t kChunkBytes = 4096;
}  // namespace

// On the loop's thread, but for `resume_posted`.
struct FdSource::State : std::enable_shared_from_this<FdSource::State> {
  State(event::EventLoop& event_loop, NonBlockingFd nonblocking, std::string source_name)
      : loop(event_loop), in(std::move(nonblocking)), name(std::move(source_name)) {}

  // Offers what waits, then reads on for as long as all is taken and more may be there.
  void Pump();
  void PostPump();
  void WatchForInput();
  void End();

  event::EventLoop& loop;
  const NonBlockingFd in;
  const std::string name;
  // Active while input is waited for; an idle watch would report a hang-up for ever.
  event::Watch watch;
  Consume consume;
  std::array<uint8_t, kChunkBytes> chunk{};
  size_t begin = 0;
  size_t end = 0;
  bool ended = false;
  std::atomic<bool> pump_posted = false;
};

void FdSource::State::PostPump() {
  // ORDERING: exchange with acq_rel pairs with the one in the posted work, so that a Resume()
  // during a pump is not lost.
  if (pump_posted.exchange(true, std::memory_order_acq_rel)) return;
  loop.Post([weak = weak_from_this()] {
    const std::shared_ptr<State> state = weak.lock();
    if (state == nullptr) return;
    state->pump_posted.exchange(false, std::memory_order_acq_rel);
    state->Pump();
  });
}

void FdSource::State::Pump() {
  if (!consume || ended) return;
  if (begin == end) {
    const int64_t got = in.Read(chunk);
    if (got == -EAGAIN) return WatchForInput();
    if (got <= 0) {
      if (got < 0) {
        LOG_WARN("{}: the input failed: {}", name, strerror(static_cast<int>(-got)));
      }
      return End();
    }
    begin = 0;
    end = static_cast<size_t>(got);
  }
  const auto taken = consume(std::span<const uint8_t>(chunk).subspan(begin, end - begin));
  begin += std::min(taken, end - begin);
  if (begin != end) {
    watch.Reset();  // until Resume()
  } else if (in.pollable()) {
    WatchForInput();
  } else {
    PostPump();
  }
}

void FdSource::State::WatchForInput() {
  if (watch.active()) return;
  // The watch lives in the state, so it cannot outlive what its callback uses.
  Result<event::Watch> made = loop.AddWatch(in.fd(), event::Interest::kRead, [this](event::Ready) {
    const std::shared_ptr<State> keep = shared_from_this();
    keep->Pump();
  });
  if (!made) {
    LOG_WARN("{}: the input is ignored: {}", name, made.error().ToString());
    return End();
  }
  watch = std::move(*made);
}

void FdSource::State::End() {
  ended = true;
  watch.Reset();
  LOG_DEBUG("{}: end of input", name);
}

FdSource::FdSource(std::shared_ptr<State> state) : state_(std::move(state)) {
}
FdSource::~FdSource() = default;

Result<std::unique_ptr<FdSource>> FdSource::Create(event::EventLoop& loop, sys::UniqueFd fd,
                                                   std::string name) {
  NonBlockingFd in = TRY_CONTEXT(NonBlockingFd::Create(std::move(fd), NonBlockingFd::Use::kRead),
                                 "opening the input of {}", name);
  auto state = std::make_shared<State>(loop, std::move(in), std::move(name));
  return std::unique_ptr<FdSource>(new FdSource(std::move(state)));
}

void FdSource::Start(Consume consume) {
  state_->consume = std::move(consume);
  state_->PostPump();
}

void FdSource::Resume() {
  state_->PostPump();
}

}  // namespace crosvm::chardev

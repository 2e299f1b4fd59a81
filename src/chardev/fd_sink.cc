#include "chardev/fd_sink.h"

#include <poll.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "chardev/nonblocking.h"

namespace crosvm::chardev {

// Shared with posted work by weak pointer: what is posted may run after the sink is gone.
struct FdSink::State : std::enable_shared_from_this<FdSink::State> {
  State(event::EventLoop& event_loop, NonBlockingFd nonblocking, std::string sink_name, size_t size)
      : loop(event_loop), out(std::move(nonblocking)), name(std::move(sink_name)), ring(size) {}

  size_t Append(std::span<const uint8_t> data);
  void Schedule();
  // On the loop's thread.
  void Drain();
  void WatchForRoom();
  // One write of what lies in one piece; false when it would block or nothing is left.
  bool WriteSome();

  event::EventLoop& loop;
  const NonBlockingFd out;
  const std::string name;
  // The loop's thread only. Active while the kernel's buffer is full: an idle watch would report a
  // hang-up for ever.
  event::Watch watch;
  std::function<void()> on_room;  // set before the first write

  Mutex mutex;
  std::vector<uint8_t> ring CROSVM_GUARDED_BY(mutex);
  size_t head CROSVM_GUARDED_BY(mutex) = 0;  // of the oldest byte
  size_t used CROSVM_GUARDED_BY(mutex) = 0;
  bool scheduled CROSVM_GUARDED_BY(mutex) = false;     // a drain is posted, or the watch waits
  bool writer_waits CROSVM_GUARDED_BY(mutex) = false;  // a Write() took less than all
  bool broken CROSVM_GUARDED_BY(mutex) = false;
};

size_t FdSink::State::Append(std::span<const uint8_t> data) {
  const MutexLock lock(mutex);
  if (broken) return data.size();
  const size_t take = std::min(data.size(), ring.size() - used);
  for (size_t done = 0; done < take;) {
    const size_t tail = (head + used) % ring.size();
    const size_t piece = std::min(take - done, ring.size() - tail);
    std::memcpy(ring.data() + tail, data.data() + done, piece);
    used += piece;
    done += piece;
  }
  if (take < data.size()) writer_waits = true;
  if (used > 0 && !std::exchange(scheduled, true)) Schedule();
  return take;
}

void FdSink::State::Schedule() {
  loop.Post([weak = weak_from_this()] {
    if (const std::shared_ptr<State> state = weak.lock()) state->Drain();
  });
}

bool FdSink::State::WriteSome() {
  const MutexLock lock(mutex);
  if (used == 0) return false;
  const size_t piece = std::min(used, ring.size() - head);
  const int64_t written = out.Write(std::span<const uint8_t>(ring).subspan(head, piece));
  if (written < 0) {
    LOG_WARN("{}: the output failed ({}); it is dropped from now on", name,
             strerror(static_cast<int>(-written)));
    broken = true;
    used = 0;
    return false;
  }
  const auto bytes = static_cast<size_t>(written);
  head = (head + bytes) % ring.size();
  used -= bytes;
  return bytes > 0;
}

void FdSink::State::Drain() {
  while (WriteSome()) {
  }
  bool room = false;
  bool more = false;
  {
    const MutexLock lock(mutex);
    more = used > 0;
    scheduled = more;
    room = used < ring.size() && std::exchange(writer_waits, false);
  }
  if (!more) {
    watch.Reset();
  } else if (!out.pollable()) {
    Schedule();  // always ready, so this is rare
  } else if (!watch.active()) {
    WatchForRoom();
  }
  if (room && on_room) on_room();
}

void FdSink::State::WatchForRoom() {
  // The watch lives in the state, so it cannot outlive what its callback uses.
  Result<event::Watch> made =
      loop.AddWatch(out.fd(), event::Interest::kWrite, [this](event::Ready) {
        const std::shared_ptr<State> keep = shared_from_this();
        keep->Drain();
      });
  if (made) {
    watch = std::move(*made);
    return;
  }
  LOG_WARN("{}: the output is dropped from now on: {}", name, made.error().ToString());
  const MutexLock lock(mutex);
  broken = true;
  used = 0;
}

FdSink::FdSink(std::shared_ptr<State> state) : state_(std::move(state)) {
}
FdSink::~FdSink() = default;

Result<std::unique_ptr<FdSink>> FdSink::Create(event::EventLoop& loop, sys::UniqueFd fd,
                                               std::string name, size_t buffer_bytes) {
  NonBlockingFd out = TRY_CONTEXT(NonBlockingFd::Create(std::move(fd), NonBlockingFd::Use::kWrite),
                                  "opening the output of {}", name);
  auto state = std::make_shared<State>(loop, std::move(out), std::move(name), buffer_bytes);
  return std::unique_ptr<FdSink>(new FdSink(std::move(state)));
}

size_t FdSink::Write(std::span<const uint8_t> data) {
  return state_->Append(data);
}

void FdSink::OnRoom(std::function<void()> callback) {
  state_->on_room = std::move(callback);
}

void FdSink::Finish(std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    while (state_->WriteSome()) {
    }
    {
      const MutexLock lock(state_->mutex);
      if (state_->used == 0) return;
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return;
    pollfd poll_fd{.fd = state_->out.fd().get(), .events = POLLOUT, .revents = 0};
    poll(&poll_fd, 1, static_cast<int>(left.count()));
  }
}

}  // namespace crosvm::chardev

// libslirp on our loop: its sockets watched, its timers run, frames in and out. One object is one
// network of one guest. On the loop of the slirp process.
//
// Work is batched: what became ready in one turn of the loop is given to libslirp in one call, and
// the interest in its sockets is brought up to date once after it. Sockets are bounded by the
// process' limit of descriptors, memory by Create()'s caller (RLIMIT_DATA).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "config/net_user.h"
#include "event/event_loop.h"

struct Slirp;

namespace crosvm::devices::slirp {

// Bytes of an IP packet between the guest and libslirp. Large, as it never meets a wire: TCP and
// UDP are ended here. libslirp's windows have 64 KiB at most, and a receiver acknowledges every
// other segment: with four segments to a window two are on their way while two are acknowledged.
inline constexpr uint16_t kMtu = 16384;

class Stack {
 public:
  // A frame for the guest; valid during the call.
  using Output = std::function<void(std::span<const uint8_t> frame)>;

  // `loop` outlives the stack. `flush` is called when a batch of frames from sockets has been put
  // out.
  static Result<std::unique_ptr<Stack>> Create(event::EventLoop& loop, Output output,
                                               std::function<void()> flush);
  ~Stack();
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  // A frame of the guest, which the filter has passed.
  void Input(std::span<const uint8_t> frame);
  // Off: no socket is read, so that no frames come but answers to the guest's own.
  void SetReading(bool on);

  // The error says why the port cannot be had, and what to do.
  Status AddForward(const config::HostForward& forward);
  // kNotFound when there is none of this host address and port.
  Status RemoveForward(const config::HostForward& forward);

  // Sockets that libslirp waits for.
  size_t sockets() const { return polled_.size(); }

 private:
  struct Callbacks;
  struct RouterTimer;
  struct Socket {
    event::Watch watch;
    event::Interest interest = event::Interest::kNone;
    int ready = 0;        // SLIRP_POLL_* since the last Poll()
    bool wanted = false;  // by the last Refresh()
  };

  Stack(event::EventLoop& loop, Output output, std::function<void()> flush);

  // Soon, once for everything of this turn.
  void ScheduleRefresh();
  void SchedulePoll();
  void Poll();
  // Asks libslirp which sockets it waits for, and until when.
  void Refresh();
  void Want(int fd, int events);
  void OnReady(int fd, event::Ready ready);
  void Forget(int fd);

  event::EventLoop& loop_;
  const Output output_;
  const std::function<void()> flush_;
  Slirp* slirp_ = nullptr;
  std::map<int, Socket> sockets_;
  std::vector<int> polled_;  // by the index that libslirp knows them by
  bool reading_ = true;
  bool poll_scheduled_ = false;
  bool refresh_scheduled_ = false;
  event::Timer timer_;
  event::Clock::time_point timer_deadline_;
  bool timer_armed_ = false;
  std::vector<std::unique_ptr<RouterTimer>> router_timers_;
  std::shared_ptr<Stack*> self_;  // posted callbacks hold a weak reference
};

}  // namespace crosvm::devices::slirp

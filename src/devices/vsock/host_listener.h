// Programs of the host that want to reach the guest: each connects to one listening Unix socket and
// sends the line `CONNECT PORT`. Lives on the device's loop.
//
// Memory: at most kMaxGreeting connections in this state; more wait in the socket's queue.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "event/event_loop.h"
#include "sys/fd.h"

namespace crosvm::devices::vsock {

inline constexpr size_t kMaxGreeting = 64;
inline constexpr std::chrono::seconds kGreetingTimeout{5};

// The port of the line `CONNECT PORT`, without its end.
std::optional<uint32_t> ParseGreeting(std::string_view line);

class HostListener {
 public:
  // Takes over a connection that wants `port`.
  using Connected = std::function<void(uint32_t port, sys::UniqueFd socket)>;

  // `listener`: a listening, non-blocking stream socket.
  static Result<std::unique_ptr<HostListener>> Create(event::EventLoop& loop,
                                                      sys::UniqueFd listener, Connected connected);
  ~HostListener();

  size_t greeting() const { return waiting_.size(); }

 private:
  struct Waiting {
    sys::UniqueFd socket;
    event::Watch watch;
    event::Timer timeout;
    std::string line;
  };
  using Place = std::list<Waiting>::iterator;

  HostListener(event::EventLoop& loop, sys::UniqueFd listener, Connected connected);
  void OnListener();
  Status Greet(sys::UniqueFd socket);
  void OnReadable(Place place);
  void Drop(Place place);

  event::EventLoop& loop_;
  sys::UniqueFd listener_;
  Connected connected_;
  event::Watch watch_;
  event::Timer retry_;
  std::list<Waiting> waiting_;
};

}  // namespace crosvm::devices::vsock

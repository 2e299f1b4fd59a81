// The VMM's side of the control socket, on its main loop. Clients are whoever may open the socket's
// path; they are not trusted to be well-behaved: the number of connections and the size of messages
// are bounded, a malformed request gets
// {"Err":22}, and a client that does not read its answers is dropped. Nothing here blocks.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "base/result.h"
#include "codec/channel.h"
#include "control/messages.h"
#include "event/event_loop.h"
#include "sys/socket.h"

namespace crosvm::control {

class Server {
 public:
  // Called on the loop's thread; must not block, may Publish(). The answer is sent right after it
  // returns, also when it calls Stop() of the loop. Events is handled by the server itself.
  using Handler = std::function<Response(const Request&)>;

  static constexpr size_t kMaxConnections = 32;
  // Requests of one client that are served before others get their turn.
  static constexpr int kRequestsPerTurn = 16;

  // `loop` outlives the server.
  static Result<std::unique_ptr<Server>> Create(event::EventLoop& loop, sys::UnixListener listener,
                                                Handler handler);

  // To every client that asked for events.
  void Publish(const Event& event);
  size_t connections() const { return connections_.size(); }

 private:
  struct Connection {
    codec::JsonChannel<Response, Request> channel;
    event::Watch watch;
    bool subscribed = false;
  };
  using Connections = std::map<uint64_t, Connection>;

  Server(event::EventLoop& loop, sys::UnixListener listener, Handler handler);

  void OnAccept();
  Status Add(sys::UnixSocket socket);
  void OnReadable(uint64_t id, event::Ready ready);
  // False when the connection is to be dropped, or was.
  bool ServeOne(uint64_t id, bool& more);
  void MakeRoom();

  event::EventLoop& loop_;
  sys::UnixListener listener_;
  Handler handler_;
  event::Watch accept_watch_;
  event::Timer accept_pause_;
  Connections connections_;
  uint64_t next_id_ = 0;
};

}  // namespace crosvm::control

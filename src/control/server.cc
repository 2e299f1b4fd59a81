#include "control/server.h"

#include <algorithm>

#include "base/log.h"
#include "sys/file.h"

namespace crosvm::control {

Server::Server(event::EventLoop& loop, sys::UnixListener listener, Handler handler)
    : loop_(loop), listener_(std::move(listener)), handler_(std::move(handler)) {
}

Result<std::unique_ptr<Server>> Server::Create(event::EventLoop& loop, sys::UnixListener listener,
                                               Handler handler) {
  std::unique_ptr<Server> server(new Server(loop, std::move(listener), std::move(handler)));
  TRY(sys::SetNonBlocking(server->listener_.fd(), true));
  server->accept_watch_ =
      TRY(loop.AddWatch(server->listener_.fd(), event::Interest::kRead,
                        [raw = server.get()](event::Ready) { raw->OnAccept(); }));
  return server;
}

void Server::OnAccept() {
  Result<sys::UnixSocket> socket = listener_.Accept();
  if (!socket) {
    if (socket.error().kind() == ErrorKind::kBusy) return;  // the client is gone again
    // Out of descriptors, most likely: the pending connection would wake the loop for ever.
    LOG_WARN_EVERY(std::chrono::seconds(10), "control socket: {}", socket.error().ToString());
    accept_watch_.SetInterest(event::Interest::kNone);
    accept_pause_ = loop_.AddTimer(std::chrono::milliseconds(200),
                                   [this] { accept_watch_.SetInterest(event::Interest::kRead); });
    return;
  }
  MakeRoom();
  if (const Status added = Add(std::move(*socket)); !added) {
    LOG_WARN_EVERY(std::chrono::seconds(10), "control socket: {}", added.error().ToString());
  }
}

// Clients that only sit there must not keep `crosvm stop` out, so the oldest goes, and one that
// waits for events only when all do.
void Server::MakeRoom() {
  if (connections_.size() < kMaxConnections) return;
  const auto idle = std::find_if(connections_.begin(), connections_.end(),
                                 [](const auto& entry) { return !entry.second.subscribed; });
  connections_.erase(idle != connections_.end() ? idle : connections_.begin());
}

Status Server::Add(sys::UnixSocket socket) {
  TRY(sys::SetNonBlocking(socket.fd(), true));
  const uint64_t id = next_id_++;
  Connection connection = {.channel = codec::JsonChannel<Response, Request>(std::move(socket))};
  connection.watch = TRY(loop_.AddWatch(connection.channel.fd(), event::Interest::kRead,
                                        [this, id](event::Ready ready) { OnReadable(id, ready); }));
  connections_.emplace(id, std::move(connection));
  return {};
}

void Server::OnReadable(uint64_t id, event::Ready ready) {
  if (!ready.readable && ready.hangup) {
    connections_.erase(id);
    return;
  }
  bool more = true;
  for (int i = 0; more && i < kRequestsPerTurn; ++i) {
    if (!ServeOne(id, more)) {
      connections_.erase(id);
      return;
    }
  }
}

bool Server::ServeOne(uint64_t id, bool& more) {
  const auto client = connections_.find(id);
  if (client == connections_.end()) return false;
  Result<codec::Incoming<Request>> incoming = client->second.channel.Receive();
  Response response;
  if (!incoming) {
    const ErrorKind kind = incoming.error().kind();
    more = false;
    if (kind == ErrorKind::kBusy) return true;
    if (kind != ErrorKind::kInvalidArgument && kind != ErrorKind::kProtocol) return false;
    more = true;
    LOG_DEBUG("control socket: refused a request: {}", incoming.error().ToString());
    response = Err{EINVAL};
  } else if (std::holds_alternative<Events>(incoming->message)) {
    client->second.subscribed = true;
    response = Ok{};
  } else {
    response = handler_(incoming->message);
  }
  // The handler may have published an event, which drops clients that do not read: this one, too.
  const auto still = connections_.find(id);
  return still != connections_.end() && still->second.channel.Send(response).has_value();
}

void Server::Publish(const Event& event) {
  for (auto it = connections_.begin(); it != connections_.end();) {
    const bool drop = it->second.subscribed && !it->second.channel.Send(Response(event));
    it = drop ? connections_.erase(it) : std::next(it);
  }
}

}  // namespace crosvm::control

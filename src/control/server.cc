#include "control/server.h"

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
  if (!MakeRoom()) return;
  if (const Status added = Add(std::move(*socket)); !added) {
    LOG_WARN_EVERY(std::chrono::seconds(10), "control socket: {}", added.error().ToString());
  }
}

// A client that only sits there must not keep `crosvm stop` out, so the oldest without a
// subscription goes.
bool Server::MakeRoom() {
  if (connections_.size() < kMaxConnections) return true;
  for (auto it = connections_.begin(); it != connections_.end(); ++it) {
    if (it->second.subscribed) continue;
    connections_.erase(it);
    return true;
  }
  return false;
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
  const auto it = connections_.find(id);
  if (it == connections_.end()) return;
  if (!ready.readable && ready.hangup) {
    connections_.erase(it);
    return;
  }
  bool more = true;
  for (int i = 0; more && i < kRequestsPerTurn; ++i) {
    if (!ServeOne(it->second, more)) {
      connections_.erase(it);
      return;
    }
  }
}

bool Server::ServeOne(Connection& connection, bool& more) {
  Result<codec::Incoming<Request>> incoming = connection.channel.Receive();
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
    connection.subscribed = true;
    response = Ok{};
  } else {
    response = handler_(incoming->message);
  }
  return connection.channel.Send(response).has_value();
}

void Server::Publish(const Event& event) {
  for (auto it = connections_.begin(); it != connections_.end();) {
    const bool drop = it->second.subscribed && !it->second.channel.Send(Response(event));
    it = drop ? connections_.erase(it) : std::next(it);
  }
}

}  // namespace crosvm::control

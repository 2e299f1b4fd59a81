// The caller's side of the control socket: the subcommands. Blocking, one thread.
#pragma once

#include <chrono>
#include <string>

#include "base/result.h"
#include "codec/channel.h"
#include "control/messages.h"

namespace crosvm::control {

class Client {
 public:
  // The error says whether there is no such socket, nobody listens any more, or it is not ours to
  // use.
  static Result<Client> Connect(const std::string& path);

  // Sends and waits for the answer. kTimedOut when the VM does not answer; kDisconnected when it
  // ends before.
  Result<Response> Call(const Request& request, std::chrono::milliseconds timeout);
  // Call(), and an error answer as an Error.
  Status Command(const Request& request, std::chrono::milliseconds timeout);
  // The next event after Events was answered; waits for ever. kDisconnected when the VM has ended.
  Result<Event> NextEvent();
  // Until the VM closes the connection; kTimedOut when it does not. No request may be outstanding.
  Status WaitForEnd(std::chrono::milliseconds timeout);

 private:
  Client(std::string path, sys::UnixSocket socket)
      : path_(std::move(path)), channel_(std::move(socket)) {}

  Result<Response> Receive();

  std::string path_;
  codec::JsonChannel<Request, Response> channel_;
};

// Err and ErrorText as an Error; anything else is success.
Status ToStatus(const Response& response);

}  // namespace crosvm::control

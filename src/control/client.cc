#include "control/client.h"

#include <sys/stat.h>

namespace crosvm::control {
namespace {

std::unexpected<Error> ExplainConnect(const std::string& path, Error error) {
  switch (error.sys_errno()) {
    case ENOENT:
      return Fail(ErrorKind::kNotFound,
                  "there is no control socket {}; check the path that `crosvm run --socket` got",
                  path);
    case ECONNREFUSED:
      if (struct stat status{}; stat(path.c_str(), &status) == 0 && !S_ISSOCK(status.st_mode)) {
        return Fail(ErrorKind::kInvalidArgument,
                    "{} is no socket; give the path that `crosvm run --socket` got", path);
      }
      return Fail(ErrorKind::kDisconnected,
                  "nobody listens on {}: its VM has ended, and the file can be removed", path);
    case EACCES:
    case EPERM:
      return Fail(ErrorKind::kPermissionDenied,
                  "the control socket {} belongs to another user; run this as the user of the VM",
                  path);
    case EPROTOTYPE:
      return Fail(ErrorKind::kInvalidArgument, "{} is a socket of another program", path);
    default:
      return std::unexpected(std::move(error));
  }
}

}  // namespace

Result<Client> Client::Connect(const std::string& path) {
  Result<sys::UnixSocket> socket = sys::UnixSocket::Connect(path, sys::SocketType::kSeqPacket);
  if (!socket) return ExplainConnect(path, std::move(socket).error());
  return Client(path, std::move(*socket));
}

Result<Response> Client::Receive() {
  Result<codec::Incoming<Response>> incoming = channel_.Receive();
  if (incoming) return std::move(incoming->message);
  switch (incoming.error().kind()) {
    case ErrorKind::kBusy:
      return Fail(ErrorKind::kTimedOut, "the VM at {} does not answer", path_);
    case ErrorKind::kDisconnected:
      return Fail(ErrorKind::kDisconnected, "the VM at {} has closed the connection", path_);
    default:
      return std::unexpected(
          std::move(incoming).error().Context(fmt::format("the answer of the VM at {}", path_)));
  }
}

Result<Response> Client::Call(const Request& request, std::chrono::milliseconds timeout) {
  TRY(channel_.SetTimeout(timeout));
  TRY_CONTEXT(channel_.Send(request), "sending to {}", path_);
  return Receive();
}

Status Client::Command(const Request& request, std::chrono::milliseconds timeout) {
  const Response response = TRY(Call(request, timeout));
  return ToStatus(response);
}

Result<Event> Client::NextEvent() {
  TRY(channel_.SetTimeout(std::chrono::milliseconds(0)));
  Response response = TRY(Receive());
  if (Event* event = std::get_if<Event>(&response)) return std::move(*event);
  return Fail(ErrorKind::kProtocol, "the VM at {} sent something that is no event", path_);
}

Status Client::WaitForEnd(std::chrono::milliseconds timeout) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point deadline = Clock::now() + timeout;
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return Fail(ErrorKind::kTimedOut, "the VM at {} still runs", path_);
    TRY(channel_.SetTimeout(left));
    const Result<Response> response = Receive();
    if (response) continue;
    const ErrorKind kind = response.error().kind();
    if (kind == ErrorKind::kDisconnected) return {};
    if (kind != ErrorKind::kTimedOut) return std::unexpected(response.error().Clone());
  }
}

Status ToStatus(const Response& response) {
  if (const Err* err = std::get_if<Err>(&response)) {
    return std::unexpected(Error::FromErrno(err->code, "the VM refused"));
  }
  if (const ErrorText* error = std::get_if<ErrorText>(&response)) {
    return Fail(ErrorKind::kUnsupported, "{}", error->message);
  }
  return {};
}

}  // namespace crosvm::control

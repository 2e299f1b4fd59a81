#include "base/error.h"

#include <cerrno>
#include <cstring>

namespace crosvm {
namespace {

ErrorKind KindOf(int err) {
  switch (err) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
      return ErrorKind::kNotFound;
    case EEXIST:
    case EADDRINUSE:
      return ErrorKind::kAlreadyExists;
    case EACCES:
    case EPERM:
      return ErrorKind::kPermissionDenied;
    case EBUSY:
    case EAGAIN:
    case ETXTBSY:
      return ErrorKind::kBusy;
    case EINVAL:
    case ENOTDIR:
    case EISDIR:
    case ENAMETOOLONG:
      return ErrorKind::kInvalidArgument;
    case ENOSYS:
    case EOPNOTSUPP:
      return ErrorKind::kUnsupported;
    case ETIMEDOUT:
      return ErrorKind::kTimedOut;
    case EPIPE:
    case ECONNRESET:
      return ErrorKind::kDisconnected;
    default:
      return ErrorKind::kIo;
  }
}

std::string Lowercased(const char* text) {
  std::string out = text;
  // strerror() starts with a capital; in a chain it stands after a colon.
  if (out.size() > 1 && out[0] >= 'A' && out[0] <= 'Z' && out[1] >= 'a' && out[1] <= 'z') {
    out[0] = static_cast<char>(out[0] - 'A' + 'a');
  }
  return out;
}

}  // namespace

Error::Error(ErrorKind kind, std::string message)
    : state_(std::make_unique<State>(State{kind, 0, std::move(message)})) {
}

Error Error::FromErrno(int err, std::string_view message) {
  char buffer[128];
  const char* reason = strerror_r(err, buffer, sizeof(buffer));
  Error error(KindOf(err), fmt::format("{}: {}", message, Lowercased(reason)));
  error.state_->sys_errno = err;
  return error;
}

Error Error::Last(std::string_view message) {
  return FromErrno(errno, message);
}

Error&& Error::Context(std::string_view doing) && {
  state_->text.insert(0, ": ");
  state_->text.insert(0, doing);
  return std::move(*this);
}

Error Error::Clone() const {
  Error copy(state_->kind, state_->text);
  copy.state_->sys_errno = state_->sys_errno;
  return copy;
}

}  // namespace crosvm

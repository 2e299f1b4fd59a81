// The error value of the control plane: what failed, why, and on the way to what. See
// docs/errors.md. The data plane (a request of a guest) uses a per-device enum instead: no
// allocation, no text.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace crosvm {

// What a caller may want to tell apart. Everything else is in the text.
enum class ErrorKind : uint8_t {
  kInternal,         // a broken assumption of ours that need not end the process
  kInvalidArgument,  // the user's option, file or request is wrong
  kNotFound,
  kAlreadyExists,
  kPermissionDenied,
  kBusy,         // somebody else holds it (a locked image, a used socket path)
  kUnsupported,  // the host, the peer or this build cannot do it
  kIo,           // a system call failed in another way
  kProtocol,     // a peer or a guest broke the protocol
  kTimedOut,
  kDisconnected,  // the peer has closed
};

// Owns one heap allocation; moving is a pointer copy. Never empty except after a move.
class [[nodiscard]] Error {
 public:
  Error(ErrorKind kind, std::string message);

  // From a failed system call; `err` is a positive errno value. The kind follows from it.
  static Error FromErrno(int err, std::string_view message);
  // As above with the calling thread's current errno.
  static Error Last(std::string_view message);

  Error(Error&&) noexcept = default;
  Error& operator=(Error&&) noexcept = default;

  ErrorKind kind() const { return state_->kind; }
  // The positive errno behind the error, or 0 when there was no system call.
  int sys_errno() const { return state_->sys_errno; }

  // Puts what was being done in front: "opening root.img: permission denied" becomes
  // "starting disk 0: opening root.img: permission denied".
  Error&& Context(std::string_view doing) &&;

  // The whole chain as one line of prose, outermost context first.
  const std::string& ToString() const { return state_->text; }

  Error Clone() const;

 private:
  struct State {
    ErrorKind kind;
    int sys_errno;
    std::string text;
  };
  std::unique_ptr<State> state_;
};

// The usual way to make one: `return Fail(ErrorKind::kInvalidArgument, "cpu {} is not online", n);`
// converts to any Result (see result.h).
template <typename... Args>
Error MakeError(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  return Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace crosvm

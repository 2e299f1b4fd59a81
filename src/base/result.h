// Result<T>, Status and TRY: how the control plane hands errors up.
//
//   Result<UniqueFd> Open(const char* path);
//
//   Status Start() {
//     UniqueFd image = TRY(Open("root.img"));
//     TRY(Lock(image));
//     UniqueFd log = TRY_CONTEXT(Open(path), "opening the log of disk {}", index);
//     if (!Fits(image)) return Fail(ErrorKind::kInvalidArgument, "{} is too large", path);
//     return {};
//   }
//
// TRY is a statement expression. It stands only as a whole initialiser, a whole operand of return,
// or a whole statement: inside a braced initialiser g++ 12 and clang leak the already built members
// (docs/errors.md).
#pragma once

#include <cerrno>
#include <expected>
#include <utility>

#include "base/error.h"

namespace crosvm {

template <typename T>
using Result = std::expected<T, Error>;
using Status = Result<void>;

template <typename... Args>
[[nodiscard]] std::unexpected<Error> Fail(ErrorKind kind, fmt::format_string<Args...> format,
                                          Args&&... args) {
  return std::unexpected(MakeError(kind, format, std::forward<Args>(args)...));
}

// With the calling thread's errno: `return FailErrno("opening {}", path);`. The arguments must not
// change errno.
template <typename... Args>
[[nodiscard]] std::unexpected<Error> FailErrno(fmt::format_string<Args...> format, Args&&... args) {
  const int err = errno;
  return std::unexpected(Error::FromErrno(err, fmt::format(format, std::forward<Args>(args)...)));
}

}  // namespace crosvm

#define TRY(expression)                                       \
  ({                                                          \
    auto try_result_ = (expression);                          \
    if (!try_result_.has_value()) [[unlikely]] {              \
      return std::unexpected(std::move(try_result_).error()); \
    }                                                         \
    *std::move(try_result_);                                  \
  })

// As TRY, and puts the formatted context in front of the error.
#define TRY_CONTEXT(expression, ...)                                                            \
  ({                                                                                            \
    auto try_result_ = (expression);                                                            \
    if (!try_result_.has_value()) [[unlikely]] {                                                \
      return std::unexpected(std::move(try_result_).error().Context(fmt::format(__VA_ARGS__))); \
    }                                                                                           \
    *std::move(try_result_);                                                                    \
  })

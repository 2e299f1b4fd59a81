// CHECK: for invariants of our own code only. Input of a guest, a device process, a file or a user
// never reaches a CHECK unvalidated; it gets a Result or a per-device error code.
#pragma once

#include <fmt/core.h>

#include <string>
#include <utility>

namespace crosvm::internal {
// Prints the message and the recent log lines, then aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition,
                              const std::string& message);
inline std::string CheckMessage() {
  return {};
}
template <typename... Args>
std::string CheckMessage(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}
}  // namespace crosvm::internal

// CHECK(index < size_, "queue {}", index); the message is optional and only built on failure.
#define CHECK(condition, ...)                                                         \
  do {                                                                                \
    if (!(condition)) [[unlikely]] {                                                  \
      ::crosvm::internal::CheckFailed(__FILE__, __LINE__, #condition,                 \
                                      ::crosvm::internal::CheckMessage(__VA_ARGS__)); \
    }                                                                                 \
  } while (false)

#ifdef NDEBUG
#define DCHECK(condition, ...) \
  do {                         \
    if (false) {               \
      CHECK(condition);        \
    }                          \
  } while (false)
#else
#define DCHECK(condition, ...) CHECK(condition __VA_OPT__(, ) __VA_ARGS__)
#endif

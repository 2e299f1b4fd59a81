// Leveled log lines, compile-time checked (fmt), one writev each, safe from every thread.
//
//   LOG_INFO("disk {}: {} bytes", index, size);
//   LOG_WARN_EVERY(std::chrono::seconds(1), "queue {}: no buffers", index);  // rate-limited
//
// The module of a line is the folder of its source file (`virtio`, `block`, …), so that
// `--log-level info,virtio=debug` can pick. A process writes to one fd (stderr unless redirected),
// each line prefixed by level, process label and module. The last 64 lines are kept in memory and
// printed by a failing CHECK.
#pragma once

#include <fmt/core.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace crosvm {

enum class LogLevel : uint8_t { kError, kWarn, kInfo, kDebug };

// Not thread-safe against logging: call before threads start.
// `spec` is `LEVEL` or `LEVEL,module=LEVEL,…` with error|warn|info|debug.
Status SetLogFilter(std::string_view spec);
// The current filter in the form that SetLogFilter takes; handed to device processes.
std::string LogFilterSpec();
void SetLogFd(int fd);
// Shown in every line, e.g. "block[0]". At most 31 bytes are kept.
void SetLogLabel(std::string_view label);
// Lines go to syslog(3) under `tag` as well.
void SetSyslogTag(std::string_view tag);

// Counts lines of LogLevel::kError since start; the test main fails a test in which it grew
// unexpectedly.
uint64_t LoggedErrors();

// Writes the ring of recent lines to `fd` with write(2) only: async-signal-safe.
void DumpRecentLog(int fd);

namespace internal {

// `src/devices/block/x.cc` → `block`.
consteval std::string_view ModuleOf(std::string_view file) {
  const size_t slash = file.rfind('/');
  if (slash == std::string_view::npos) return "main";
  const std::string_view folder = file.substr(0, slash);
  const size_t before = folder.rfind('/');
  return before == std::string_view::npos ? folder : folder.substr(before + 1);
}

bool LogEnabled(LogLevel level, std::string_view module);
void LogLine(LogLevel level, std::string_view module, fmt::string_view format,
             fmt::format_args args);

template <typename... Args>
void Log(LogLevel level, std::string_view module, fmt::format_string<Args...> format,
         Args&&... args) {
  LogLine(level, module, format, fmt::make_format_args(args...));
}

// State of one rate-limited line; static at its place.
class RateLimit {
 public:
  // True when the line may be printed now; `suppressed` is then the number of lines dropped since
  // the last one.
  bool Pass(std::chrono::nanoseconds interval, uint64_t& suppressed);

 private:
  std::atomic<int64_t> next_ns_{0};
  std::atomic<uint64_t> suppressed_{0};
};

}  // namespace internal
}  // namespace crosvm

#define CROSVM_LOG(level, ...)                                                       \
  do {                                                                               \
    constexpr std::string_view log_module_ = ::crosvm::internal::ModuleOf(__FILE__); \
    if (::crosvm::internal::LogEnabled(level, log_module_)) {                        \
      ::crosvm::internal::Log(level, log_module_, __VA_ARGS__);                      \
    }                                                                                \
  } while (false)

#define LOG_ERROR(...) CROSVM_LOG(::crosvm::LogLevel::kError, __VA_ARGS__)
#define LOG_WARN(...) CROSVM_LOG(::crosvm::LogLevel::kWarn, __VA_ARGS__)
#define LOG_INFO(...) CROSVM_LOG(::crosvm::LogLevel::kInfo, __VA_ARGS__)
#define LOG_DEBUG(...) CROSVM_LOG(::crosvm::LogLevel::kDebug, __VA_ARGS__)

// At most one line per `interval` at this place; the next one tells how many were dropped.
#define LOG_WARN_EVERY(interval, ...)                               \
  do {                                                              \
    static ::crosvm::internal::RateLimit log_limit_;                \
    uint64_t log_suppressed_ = 0;                                   \
    if (log_limit_.Pass(interval, log_suppressed_)) {               \
      if (log_suppressed_ != 0) {                                   \
        LOG_WARN("({} similar lines suppressed)", log_suppressed_); \
      }                                                             \
      LOG_WARN(__VA_ARGS__);                                        \
    }                                                               \
  } while (false)

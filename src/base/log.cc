#include "base/log.h"

#include <fmt/format.h>
#include <sys/uio.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/mutex.h"

namespace crosvm {
namespace {

constexpr size_t kRecentLines = 64;
constexpr size_t kRecentLineBytes = 240;

struct ModuleLevel {
  std::string module;
  LogLevel level;
};

struct RecentLine {
  std::array<char, kRecentLineBytes> text{};
  size_t size = 0;
};

struct LogState {
  LogLevel default_level = LogLevel::kWarn;
  std::vector<ModuleLevel> modules;
  std::atomic<int> fd{STDERR_FILENO};
  std::string label;
  std::string syslog_tag;
  std::atomic<uint64_t> errors{0};
  Mutex mutex;
  std::array<RecentLine, kRecentLines> recent CROSVM_GUARDED_BY(mutex){};
  std::atomic<uint64_t> recent_count{0};
};

// Never destroyed: threads may log while the process exits. There from the start: the first to look
// at it may be the handler of a crash, which must not allocate.
union StateStorage {
  constexpr StateStorage() : state() {}
  ~StateStorage() {}
  LogState state;
};
constinit StateStorage storage;

LogState& State() {
  return storage.state;
}

constexpr std::array<std::string_view, 4> kLevelNames = {"error", "warn", "info", "debug"};

Result<LogLevel> ParseLevel(std::string_view name) {
  for (size_t i = 0; i < kLevelNames.size(); ++i) {
    if (name == kLevelNames[i]) return static_cast<LogLevel>(i);
  }
  return Fail(ErrorKind::kInvalidArgument,
              "log level '{}' is not known; use error, warn, info or debug", name);
}

void Remember(std::string_view line) {
  LogState& state = State();
  MutexLock lock(state.mutex);
  // ORDERING: the mutex orders the writers; a dump from a signal handler takes what it finds.
  const uint64_t index = state.recent_count.fetch_add(1, std::memory_order_relaxed);
  RecentLine& slot = state.recent[index % kRecentLines];
  slot.size = std::min(line.size(), slot.text.size());
  memcpy(slot.text.data(), line.data(), slot.size);
  slot.text[slot.size - 1] = '\n';  // of a cut line too
}

// Text of a guest or a peer may be part of a line; it must not forge further lines or command a
// terminal.
void AppendPrintable(fmt::memory_buffer& line, std::string_view text) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      fmt::format_to(std::back_inserter(line), "\\n");
    } else if ((byte < 0x20 && c != '\t') || byte == 0x7f) {
      fmt::format_to(std::back_inserter(line), "\\x{:02x}", byte);
    } else {
      line.push_back(c);
    }
  }
}

int64_t NowNs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

Status SetLogFilter(std::string_view spec) {
  LogLevel default_level = LogLevel::kWarn;
  std::vector<ModuleLevel> modules;
  for (bool more = !spec.empty(); more;) {
    const size_t comma = spec.find(',');
    const std::string_view item = spec.substr(0, comma);
    more = comma != std::string_view::npos;
    if (more) spec.remove_prefix(comma + 1);
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos) {
      default_level = TRY(ParseLevel(item));
    } else {
      const LogLevel level = TRY(ParseLevel(item.substr(equals + 1)));
      modules.push_back({std::string(item.substr(0, equals)), level});
    }
  }
  State().default_level = default_level;
  State().modules = std::move(modules);
  return {};
}

std::string LogFilterSpec() {
  const LogState& state = State();
  std::string spec(kLevelNames[static_cast<size_t>(state.default_level)]);
  for (const ModuleLevel& entry : state.modules) {
    spec += fmt::format(",{}={}", entry.module, kLevelNames[static_cast<size_t>(entry.level)]);
  }
  return spec;
}

void SetLogFd(int fd) {
  State().fd.store(fd, std::memory_order_relaxed);
}

void SetLogLabel(std::string_view label) {
  State().label = label.substr(0, 31);
}

void SetSyslogTag(std::string_view tag) {
  State().syslog_tag = tag;
  // Connected now: later, a confined thread may not.
  openlog(State().syslog_tag.c_str(), LOG_PID | LOG_NDELAY, LOG_USER);
}

uint64_t LoggedErrors() {
  return State().errors.load(std::memory_order_relaxed);
}

void DumpRecentLog(int fd) {
  // A signal may have interrupted the holder of the mutex, so it is not taken: a torn line is
  // better than none.
  LogState& state = State();
  const uint64_t count = state.recent_count.load(std::memory_order_relaxed);
  const uint64_t first = count > kRecentLines ? count - kRecentLines : 0;
  [](LogState& unlocked, uint64_t from, uint64_t to, int out) CROSVM_NO_THREAD_SAFETY_ANALYSIS {
    for (uint64_t i = from; i < to; ++i) {
      const RecentLine& line = unlocked.recent[i % kRecentLines];
      if (write(out, line.text.data(), std::min(line.size, line.text.size())) < 0) return;
    }
  }(state, first, count, fd);
}

namespace internal {

bool LogEnabled(LogLevel level, std::string_view module) {
  const LogState& state = State();
  for (const ModuleLevel& entry : state.modules) {
    if (entry.module == module) return level <= entry.level;
  }
  return level <= state.default_level;
}

void LogLine(LogLevel level, std::string_view module, fmt::string_view format,
             fmt::format_args args) {
  LogState& state = State();
  if (level == LogLevel::kError) state.errors.fetch_add(1, std::memory_order_relaxed);
  const std::string_view level_name = kLevelNames[static_cast<size_t>(level)];
  fmt::memory_buffer line;
  if (state.label.empty()) {
    fmt::format_to(std::back_inserter(line), "crosvm: {}: {}: ", level_name, module);
  } else {
    fmt::format_to(std::back_inserter(line), "crosvm {}({}): {}: {}: ", state.label, getpid(),
                   level_name, module);
  }
  const size_t prefix = line.size();
  fmt::memory_buffer text;
  fmt::vformat_to(std::back_inserter(text), format, args);
  AppendPrintable(line, {text.data(), text.size()});
  if (!state.syslog_tag.empty()) {
    constexpr std::array<int, 4> kPriorities = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};
    syslog(kPriorities[static_cast<size_t>(level)], "%.*s", static_cast<int>(line.size() - prefix),
           line.data() + prefix);
  }
  line.push_back('\n');
  Remember({line.data(), line.size()});
  // One write per line keeps lines of several processes on one descriptor whole. A failed log has
  // no one to tell.
  [[maybe_unused]] const ssize_t written =
      write(state.fd.load(std::memory_order_relaxed), line.data(), line.size());
}

bool RateLimit::Pass(std::chrono::nanoseconds interval, uint64_t& suppressed) {
  const int64_t now = NowNs();
  int64_t next = next_ns_.load(std::memory_order_relaxed);
  if (now < next ||
      !next_ns_.compare_exchange_strong(next, now + interval.count(), std::memory_order_relaxed)) {
    suppressed_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  suppressed = suppressed_.exchange(0, std::memory_order_relaxed);
  return true;
}

void CheckFailed(const char* file, int line, const char* condition, const std::string& message) {
  const std::string text =
      fmt::format("crosvm {}: {}:{}: CHECK({}) failed{}{}\nrecent log:\n", State().label, file,
                  line, condition, message.empty() ? "" : ": ", message);
  const int fd = State().fd.load(std::memory_order_relaxed);
  if (write(fd, text.data(), text.size()) > 0) DumpRecentLog(fd);
  abort();
}

}  // namespace internal
}  // namespace crosvm

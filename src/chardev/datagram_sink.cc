#include "chardev/datagram_sink.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <deque>
#include <utility>

#include "base/log.h"
#include "base/mutex.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace crosvm::chardev {
namespace {

constexpr int kUserInfo = (1 << 3) | 6;  // RFC 3164, 4.1.1: facility 1, severity 6

std::string SyslogTime() {
  const time_t now = time(nullptr);
  tm local{};
  localtime_r(&now, &local);
  char text[32] = {};
  strftime(text, sizeof(text), "%h %e %T", &local);
  return text;
}

}  // namespace

struct DatagramSink::State : std::enable_shared_from_this<DatagramSink::State> {
  State(event::EventLoop& event_loop, DatagramOptions sink_options)
      : loop(event_loop), options(std::move(sink_options)) {}

  void Append(std::span<const uint8_t> data);
  void EndLine() CROSVM_REQUIRES(mutex);
  // The loop's thread.
  void Drain();
  bool Connect();
  // 0, or the errno.
  int Send(const std::string& line);

  event::EventLoop& loop;
  const DatagramOptions options;
  sys::UniqueFd folder;
  std::string file_name;  // empty: it cannot be connected again
  sys::UniqueFd socket;
  event::Timer retry;

  Mutex mutex;
  std::string line CROSVM_GUARDED_BY(mutex);
  std::deque<std::string> queue CROSVM_GUARDED_BY(mutex);
  bool scheduled CROSVM_GUARDED_BY(mutex) = false;  // a drain is posted or a retry is set
};

void DatagramSink::State::Append(std::span<const uint8_t> data) {
  const MutexLock lock(mutex);
  for (const uint8_t byte : data) {
    if (byte != '\n' || options.keep_newline) line.push_back(static_cast<char>(byte));
    if (byte == '\n' || line.size() >= kMaxLineBytes) EndLine();
  }
  if (queue.empty() || std::exchange(scheduled, true)) return;
  loop.Post([weak = weak_from_this()] {
    if (const std::shared_ptr<State> state = weak.lock()) state->Drain();
  });
}

void DatagramSink::State::EndLine() {
  std::string whole = std::exchange(line, {});
  if (queue.size() >= kMaxQueuedLines) {
    LOG_WARN_EVERY(std::chrono::seconds(10), "{}: nobody reads {}; a line is dropped", options.name,
                   options.path);
    return;
  }
  queue.push_back(std::move(whole));
}

bool DatagramSink::State::Connect() {
  if (socket.valid()) return true;
  if (file_name.empty()) return false;
  std::string path = options.path;
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    path = fmt::format("/proc/self/fd/{}/{}", folder.get(), file_name);
  }
  Result<sys::UnixSocket> made = sys::UnixSocket::Connect(path, sys::SocketType::kDatagram);
  if (!made.has_value()) return false;
  socket = made->TakeFd();
  return true;
}

int DatagramSink::State::Send(const std::string& text) {
  std::string packet = options.prefix;
  if (const size_t at = packet.find("%T"); at != std::string::npos)
    packet.replace(at, 2, SyslogTime());
  packet += text;
  const ssize_t sent = sys::RetryEintr([&] {
    return send(socket.get(), packet.data(), packet.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  });
  return sent >= 0 ? 0 : errno;
}

void DatagramSink::State::Drain() {
  const MutexLock lock(mutex);
  while (!queue.empty()) {
    if (!Connect()) break;
    const int err = Send(queue.front());
    if (err == 0 || err == EMSGSIZE) {
      queue.pop_front();
      continue;
    }
    // EAGAIN: the receiver is slow. Everything else: it is gone, and may be bound anew.
    if (err != EAGAIN) socket.Reset();
    break;
  }
  if (!socket.valid() && file_name.empty()) {
    if (!queue.empty())
      LOG_WARN_EVERY(std::chrono::seconds(10), "{}: nobody reads {} any more", options.name,
                     options.path);
    queue.clear();
  }
  scheduled = !queue.empty();
  if (!scheduled) return;
  retry = loop.AddTimer(kRetryInterval, [weak = weak_from_this()] {
    if (const std::shared_ptr<State> state = weak.lock()) state->Drain();
  });
}

DatagramOptions SyslogDatagram(std::string tag, std::string name) {
  return {.path = kSyslogPath,
          .prefix = fmt::format("<{}>%T {}: ", kUserInfo, tag),
          .keep_newline = false,
          .name = std::move(name)};
}

DatagramSink::DatagramSink(std::shared_ptr<State> state) : state_(std::move(state)) {
}
DatagramSink::~DatagramSink() = default;

Result<std::unique_ptr<DatagramSink>> DatagramSink::Create(event::EventLoop& loop,
                                                           DatagramOptions options) {
  const size_t slash = options.path.rfind('/');
  std::string folder = ".";
  if (slash != std::string::npos) folder = options.path.substr(0, slash + 1);
  std::string file_name =
      slash == std::string::npos ? options.path : options.path.substr(slash + 1);
  if (file_name.empty()) {
    return Fail(ErrorKind::kInvalidArgument, "{}: {} is not the path of a socket", options.name,
                options.path);
  }
  sys::UniqueFd folder_fd =
      TRY_CONTEXT(sys::Open(folder, O_PATH | O_DIRECTORY), "the folder of {}", options.path);
  auto state = std::make_shared<State>(loop, std::move(options));
  state->folder = std::move(folder_fd);
  state->file_name = std::move(file_name);
  return std::unique_ptr<DatagramSink>(new DatagramSink(std::move(state)));
}

std::unique_ptr<DatagramSink> DatagramSink::Over(event::EventLoop& loop, sys::UniqueFd connected,
                                                 DatagramOptions options) {
  auto state = std::make_shared<State>(loop, std::move(options));
  state->socket = std::move(connected);
  return std::unique_ptr<DatagramSink>(new DatagramSink(std::move(state)));
}

size_t DatagramSink::Write(std::span<const uint8_t> data) {
  state_->Append(data);
  return data.size();
}

void DatagramSink::Finish(std::chrono::milliseconds) {
  {
    const MutexLock lock(state_->mutex);
    if (!state_->line.empty()) state_->EndLine();
  }
  state_->Drain();
}

}  // namespace crosvm::chardev

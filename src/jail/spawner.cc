#include "jail/spawner.h"

#include <signal.h>

#include "base/log.h"

namespace crosvm::jail {
namespace {

constexpr size_t kMaxAnswer = 4096;

// Kills and reaps.
void End(const sys::PidFd& process) {
  if (!process.Signal(SIGKILL).has_value()) return;
  const Result<sys::ExitStatus> status = process.Wait();
  if (!status.has_value()) LOG_DEBUG("reaping {}: {}", process.pid(), status.error().ToString());
}

}  // namespace

Result<Spawner> Spawner::Start(const SpawnerOptions& options) {
  auto [ours, theirs] = TRY(sys::UnixSocket::Pair(sys::SocketType::kSeqPacket));
  SpawnOptions spawn;
  spawn.argv = {"crosvm", options.entry};
  if (options.empty_root) spawn.argv.emplace_back("empty-root");
  if (options.best_effort) spawn.argv.emplace_back("best-effort");
  spawn.inherit = {theirs.fd()};
  spawn.namespaces = Layers();
  Spawned spawned = TRY_CONTEXT(jail::Spawn(spawn), "starting the spawner");
  Spawner self;
  self.process_ = std::move(spawned.process);
  self.socket_ = std::move(ours);
  TRY(self.socket_.SetTimeouts(options.answer_timeout));
  return self;
}

Spawner& Spawner::operator=(Spawner&& other) noexcept {
  std::swap(socket_, other.socket_);
  std::swap(process_, other.process_);
  std::swap(last_number_, other.last_number_);
  return *this;
}

Spawner::~Spawner() {
  if (!process_.valid()) return;
  socket_ = sys::UnixSocket();
  End(process_);  // it has no state to keep
}

Result<Spawner::Answer> Spawner::Call(SpawnRequest request, std::span<const sys::BorrowedFd> fds) {
  request.number = ++last_number_;
  const Result<size_t> sent = socket_.Send(EncodeSpawnRequest(request), fds);
  if (!sent.has_value()) return Fail(ErrorKind::kIo, "the spawner: {}", sent.error().ToString());
  while (true) {
    Answer got = TRY(ReceiveAnswer());
    if (got.answer.number == request.number) return got;
    // To a request that was given up for its time. Nobody knows of what it started.
    LOG_WARN("a late answer of the spawner");
    if (got.process.valid()) End(got.process);
  }
}

Result<Spawner::Answer> Spawner::ReceiveAnswer() {
  std::vector<uint8_t> bytes(kMaxAnswer);
  Result<sys::Received> got = socket_.Receive(bytes);
  if (!got.has_value() || got->bytes == 0) {
    return Fail(ErrorKind::kIo,
                "the process that starts device processes (pid {}) is gone or hangs",
                process_.pid());
  }
  Answer answer{.answer = TRY(DecodeSpawnAnswer({bytes.data(), got->bytes})),
                .process = sys::PidFd()};
  if (answer.answer.pid > 0 && got->fds.size() == 1) {
    answer.process = sys::PidFd::Adopt(std::move(got->fds[0]), answer.answer.pid);
  }
  return answer;
}

Result<Spawned> Spawner::Spawn(const SpawnOptions& options) {
  SpawnRequest request;
  request.spawn = options;
  request.inherited = static_cast<uint32_t>(options.inherit.size());
  request.has_executable = options.executable.valid();
  std::vector<sys::BorrowedFd> fds = options.inherit;
  if (request.has_executable) fds.push_back(options.executable);
  Answer got = TRY(Call(std::move(request), fds));
  if (!got.process.valid()) return Fail(ErrorKind::kIo, "{}", got.answer.text);
  return Spawned{std::move(got.process), got.answer.namespaces};
}

Status Spawner::Seal() {
  TRY(Call({.kind = SpawnRequest::Kind::kSeal}, {}));
  return {};
}

Result<std::string> Spawner::OutOfMemory(pid_t pid) {
  Answer got = TRY(Call({.kind = SpawnRequest::Kind::kOutOfMemory, .pid = pid}, {}));
  return std::move(got.answer.text);
}

}  // namespace crosvm::jail

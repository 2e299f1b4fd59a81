#include "jail/spawner.h"

#include <cstring>

#include "base/log.h"

namespace crosvm::jail {
namespace {

constexpr std::chrono::milliseconds kAnswerTimeout{20000};
constexpr size_t kMaxAnswer = 4096;

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
  TRY(self.socket_.SetTimeouts(kAnswerTimeout));
  return self;
}

Spawner& Spawner::operator=(Spawner&& other) noexcept {
  std::swap(socket_, other.socket_);
  std::swap(process_, other.process_);
  return *this;
}

Spawner::~Spawner() {
  if (!process_.valid()) return;
  socket_ = sys::UnixSocket();
  // It has no state to keep.
  if (process_.Signal(SIGKILL).has_value()) {
    const Result<sys::ExitStatus> status = process_.Wait();
    if (!status.has_value()) LOG_DEBUG("reaping the spawner: {}", status.error().ToString());
  }
}

Result<std::vector<uint8_t>> Spawner::Call(std::span<const uint8_t> request,
                                           std::span<const sys::BorrowedFd> fds,
                                           std::vector<sys::UniqueFd>* received) {
  const Result<size_t> sent = socket_.Send(request, fds);
  if (!sent.has_value()) return Fail(ErrorKind::kIo, "the spawner: {}", sent.error().ToString());
  std::vector<uint8_t> answer(kMaxAnswer);
  Result<sys::Received> got = socket_.Receive(answer);
  if (!got.has_value() || got->bytes == 0) {
    return Fail(ErrorKind::kIo,
                "the process that starts device processes (pid {}) is gone or hangs",
                process_.pid());
  }
  answer.resize(got->bytes);
  if (received != nullptr) *received = std::move(got->fds);
  return answer;
}

Result<Spawned> Spawner::Spawn(const SpawnOptions& options) {
  SpawnRequest request;
  request.spawn = options;
  request.inherited = static_cast<uint32_t>(options.inherit.size());
  request.has_executable = options.executable.valid();
  std::vector<sys::BorrowedFd> fds = options.inherit;
  if (request.has_executable) fds.push_back(options.executable);
  std::vector<sys::UniqueFd> received;
  const std::vector<uint8_t> answer = TRY(Call(EncodeSpawnRequest(request), fds, &received));
  int32_t head[3];  // pid, layers, errno
  if (answer.size() < sizeof(head)) return Fail(ErrorKind::kProtocol, "the spawner's answer");
  memcpy(head, answer.data(), sizeof(head));
  if (head[0] <= 0 || received.size() != 1) {
    // SAFETY: bytes seen as characters.
    const std::string text(reinterpret_cast<const char*>(answer.data()) + sizeof(head),
                           answer.size() - sizeof(head));
    return Fail(ErrorKind::kIo, "{}", text);
  }
  return Spawned{sys::PidFd::Adopt(std::move(received[0]), head[0]),
                 Layers(static_cast<uint32_t>(head[1]))};
}

Status Spawner::Seal() {
  TRY(Call(EncodeSpawnRequest({.kind = SpawnRequest::Kind::kSeal}), {}, nullptr));
  return {};
}

Result<std::string> Spawner::OutOfMemory(pid_t pid) {
  const std::vector<uint8_t> answer = TRY(Call(
      EncodeSpawnRequest({.kind = SpawnRequest::Kind::kOutOfMemory, .pid = pid}), {}, nullptr));
  return std::string(answer.begin() + 1, answer.end());
}

}  // namespace crosvm::jail

// The bytes between the VMM and its spawner: fixed header, id maps, then strings that end in a
// zero. An answer is a header and text.
#include <cstring>

#include "jail/spawner.h"

namespace crosvm::jail {
namespace {

// More than any device has.
constexpr uint32_t kMaxArguments = 16;
constexpr uint32_t kMaxMaps = 340;  // the kernel's own limit (user_namespaces(7))

struct Header {
  uint32_t kind;
  uint32_t number;
  int32_t pid;
  uint32_t namespaces;
  uint32_t flags;
  uint32_t inherited;
  uint32_t arguments;
  uint32_t uid_maps;
  uint32_t gid_maps;
};
struct AnswerHeader {
  uint32_t number;
  int32_t pid;
  uint32_t namespaces;
};
constexpr uint32_t kBestEffort = 1;
constexpr uint32_t kHostRoot = 2;
constexpr uint32_t kHasExecutable = 4;

void Append(std::vector<uint8_t>& bytes, const void* data, size_t size) {
  const auto* const begin = static_cast<const uint8_t*>(data);
  bytes.insert(bytes.end(), begin, begin + size);
}

std::unexpected<Error> Malformed() {
  return Fail(ErrorKind::kProtocol, "a malformed request to the spawner");
}

Result<std::vector<IdMap>> TakeMaps(std::span<const uint8_t>& bytes, uint32_t count) {
  if (count > kMaxMaps || bytes.size() < count * sizeof(IdMap)) return Malformed();
  std::vector<IdMap> maps(count);
  if (count != 0) memcpy(maps.data(), bytes.data(), count * sizeof(IdMap));
  bytes = bytes.subspan(count * sizeof(IdMap));
  return maps;
}

}  // namespace

std::vector<uint8_t> EncodeSpawnRequest(const SpawnRequest& request) {
  const SpawnOptions& spawn = request.spawn;
  const Header header = {.kind = static_cast<uint32_t>(request.kind),
                         .number = request.number,
                         .pid = request.pid,
                         .namespaces = spawn.namespaces.bits(),
                         .flags = (spawn.best_effort ? kBestEffort : 0) |
                                  (spawn.host_root ? kHostRoot : 0) |
                                  (request.has_executable ? kHasExecutable : 0),
                         .inherited = request.inherited,
                         .arguments = static_cast<uint32_t>(spawn.argv.size()),
                         .uid_maps = static_cast<uint32_t>(spawn.uid_map.size()),
                         .gid_maps = static_cast<uint32_t>(spawn.gid_map.size())};
  std::vector<uint8_t> bytes;
  Append(bytes, &header, sizeof(header));
  Append(bytes, spawn.uid_map.data(), spawn.uid_map.size() * sizeof(IdMap));
  Append(bytes, spawn.gid_map.data(), spawn.gid_map.size() * sizeof(IdMap));
  for (const std::string& argument : spawn.argv) {
    Append(bytes, argument.c_str(), strlen(argument.c_str()) + 1);
  }
  return bytes;
}

Result<SpawnRequest> DecodeSpawnRequest(std::span<const uint8_t> bytes) {
  Header header;
  if (bytes.size() < sizeof(header)) return Malformed();
  memcpy(&header, bytes.data(), sizeof(header));
  bytes = bytes.subspan(sizeof(header));
  if (header.kind < 1 || header.kind > 3 || header.arguments > kMaxArguments ||
      (header.flags & ~(kBestEffort | kHostRoot | kHasExecutable)) != 0 ||
      header.inherited > sys::kMaxFdsPerMessage) {
    return Malformed();
  }
  SpawnRequest request;
  request.kind = static_cast<SpawnRequest::Kind>(header.kind);
  request.number = header.number;
  request.pid = header.pid;
  request.spawn.namespaces = Layers(header.namespaces);
  request.spawn.best_effort = (header.flags & kBestEffort) != 0;
  request.spawn.host_root = (header.flags & kHostRoot) != 0;
  request.has_executable = (header.flags & kHasExecutable) != 0;
  request.inherited = header.inherited;
  request.spawn.uid_map = TRY(TakeMaps(bytes, header.uid_maps));
  request.spawn.gid_map = TRY(TakeMaps(bytes, header.gid_maps));
  for (uint32_t i = 0; i < header.arguments; ++i) {
    const void* const end = memchr(bytes.data(), 0, bytes.size());
    if (bytes.empty() || end == nullptr) return Malformed();
    const auto length = static_cast<size_t>(static_cast<const uint8_t*>(end) - bytes.data());
    // SAFETY: bytes seen as characters.
    request.spawn.argv.emplace_back(reinterpret_cast<const char*>(bytes.data()), length);
    bytes = bytes.subspan(length + 1);
  }
  if (!bytes.empty()) return Malformed();
  return request;
}

std::vector<uint8_t> EncodeSpawnAnswer(const SpawnAnswer& answer) {
  const AnswerHeader header = {
      .number = answer.number, .pid = answer.pid, .namespaces = answer.namespaces.bits()};
  std::vector<uint8_t> bytes;
  Append(bytes, &header, sizeof(header));
  Append(bytes, answer.text.data(), answer.text.size());
  return bytes;
}

Result<SpawnAnswer> DecodeSpawnAnswer(std::span<const uint8_t> bytes) {
  AnswerHeader header;
  if (bytes.size() < sizeof(header)) {
    return Fail(ErrorKind::kProtocol, "a malformed answer of the spawner");
  }
  memcpy(&header, bytes.data(), sizeof(header));
  bytes = bytes.subspan(sizeof(header));
  return SpawnAnswer{.number = header.number,
                     .pid = header.pid,
                     .namespaces = Layers(header.namespaces),
                     .text = std::string(bytes.begin(), bytes.end())};
}

}  // namespace crosvm::jail

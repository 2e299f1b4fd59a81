#include "devices/net/net_user.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/log.h"
#include "codec/cbor.h"
#include "codec/key_value.h"
#include "config/net_options.h"
#include "policies/net_user.h"
#include "sys/file.h"

namespace crosvm::devices::net {
namespace {

constexpr size_t kMaxResolvers = 3;
constexpr size_t kMaxResolvConf = 64 << 10;
constexpr const char* kResolvConf = "/etc/resolv.conf";

std::vector<config::IpAddress> HostResolvers() {
  const Result<sys::UniqueFd> file = sys::Open(kResolvConf, O_RDONLY);
  if (!file.has_value()) return {};
  std::string text(kMaxResolvConf, '\0');
  const ssize_t got = pread(file->get(), text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return ParseResolvers(text);
}

// Beside this program, wherever that was installed.
Result<sys::UniqueFd> OpenProgram() {
  char self[PATH_MAX] = {};
  const ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
  if (length < 0) return FailErrno("reading /proc/self/exe");
  const std::string_view path(self, static_cast<size_t>(length));
  const std::string program = fmt::format("{}/{}", path.substr(0, path.rfind('/')), kUserProgram);
  Result<sys::UniqueFd> file = sys::Open(program, O_PATH);
  if (!file.has_value()) {
    return Fail(file.error().kind(),
                "--net user is served by {}, which is missing; install it beside crosvm", program);
  }
  return file;
}

Result<PreparedDevice> Prepare(std::string_view text) {
  PreparedDevice prepared = TRY(PrepareUser(text));
  prepared.program = TRY(OpenProgram());
  return prepared;
}

Result<std::unique_ptr<virtio::Device>> CreateElsewhere(PreparedDevice, const CreateContext&) {
  return Fail(ErrorKind::kUnsupported, "the user-mode network is served by {} only", kUserProgram);
}

}  // namespace

Mac MakeMac() {
  Mac mac{};
  if (getrandom(mac.data(), mac.size(), 0) != static_cast<ssize_t>(mac.size()))
    LOG_WARN("no randomness for a MAC address");
  mac[0] = static_cast<uint8_t>((mac[0] & 0xfc) | 0x02);
  return mac;
}

std::vector<config::IpAddress> ParseResolvers(std::string_view text) {
  std::vector<config::IpAddress> resolvers;
  while (!text.empty() && resolvers.size() < kMaxResolvers) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    constexpr std::string_view kKey = "nameserver";
    constexpr std::string_view kBlanks = " \t\r";
    if (!line.starts_with(kKey)) continue;
    line.remove_prefix(kKey.size());
    const size_t first = line.find_first_not_of(kBlanks);
    if (first == 0 || first == std::string_view::npos) continue;
    line = line.substr(first, line.find_first_of(kBlanks, first) - first);
    // A link-local address with its interface; the relay has no use for it.
    if (line.find('%') != std::string_view::npos) continue;
    const Result<config::IpAddress> address = config::IpAddress::Parse(line);
    if (address.has_value()) resolvers.push_back(*address);
  }
  return resolvers;
}

Result<PreparedDevice> PrepareUser(std::string_view text) {
  const config::NetOptions options = TRY(codec::ParseKeyValue<config::NetOptions>(text));
  TRY(config::CheckNet(options));
  if (!options.user) return Fail(ErrorKind::kInvalidArgument, "--net: user is missing");
  UserStart start{.mac = options.mac ? options.mac->bytes : MakeMac(),
                  .forwards = options.hostfwd,
                  .resolvers = {},
                  .restricted = options.restrict_all || !options.allow.empty(),
                  .allow = options.allow,
                  .host_loopback = options.host_loopback};
  if (options.dns) {
    start.resolvers.push_back(*options.dns);
  } else {
    start.resolvers = HostResolvers();
    if (start.resolvers.empty())
      LOG_WARN("{} names no resolver: the guest has no DNS; dns=ADDRESS names one", kResolvConf);
  }
  PreparedDevice prepared;
  prepared.start = codec::ToCbor(start);
  // Its sockets are the host's.
  prepared.jail.without.Add(jail::Layer::kNetNamespace);
  return prepared;
}

const DeviceModule kNetUserModule = {
    .name = kUserModuleName,
    .summary = kUserSummary,
    .option_help = kUserOptionHelp,
    .prepare = &Prepare,
    .create = &CreateElsewhere,
    .policy = policies::kNetUser,
};

}  // namespace crosvm::devices::net

#include "devices/slirp/slirp_module.h"

#include <sys/resource.h>

#include <algorithm>

#include "base/log.h"
#include "codec/cbor.h"
#include "devices/net/net_device.h"
#include "devices/net/net_user.h"
#include "devices/net/net_wire.h"
#include "devices/slirp/slirp_port.h"
#include "policies/net_user.h"

namespace crosvm::devices::slirp {
namespace {

// libslirp keeps what arrives out of order for as long as it fits the windows of a thousand
// sockets; a guest that sends it byte by byte ends its own network, not the host's memory. Guest
// memory is shared and does not count.
constexpr rlim_t kMaxData = rlim_t{768} << 20;

#ifdef CROSVM_SANITIZED
constexpr bool kLimitsMemory = false;  // their shadow memory counts
#else
constexpr bool kLimitsMemory = true;
#endif

Status LimitMemory() {
  rlimit limit{};
  if (getrlimit(RLIMIT_DATA, &limit) != 0) return FailErrno("reading the limit of data");
  limit.rlim_cur = limit.rlim_max = std::min(kMaxData, limit.rlim_max);
  if (setrlimit(RLIMIT_DATA, &limit) != 0) return FailErrno("limiting data");
  return {};
}

Result<std::unique_ptr<virtio::Device>> Create(PreparedDevice prepared,
                                               const CreateContext& context) {
  net::UserStart start = TRY(codec::FromCbor<net::UserStart>(prepared.start, 0));
  if (kLimitsMemory) TRY(LimitMemory());
  PortOptions options{.filter = {.restricted = start.restricted,
                                 .allow = std::move(start.allow),
                                 .host_loopback = start.host_loopback},
                      .resolvers = std::move(start.resolvers),
                      .forwards = std::move(start.forwards)};
  std::unique_ptr<SlirpPort> port = TRY(SlirpPort::Create(context.loop, std::move(options)));
  std::vector<std::unique_ptr<net::PacketPort>> ports;
  ports.push_back(std::move(port));
  return net::NetDevice::Create(
      context.loop, std::move(ports),
      net::DeviceOptions{.mac = start.mac,
                         .mtu = kMtu,
                         .port_features = virtio::FeatureBit(VIRTIO_NET_F_GUEST_CSUM)});
}

}  // namespace

const DeviceModule kSlirpModule = {
    .name = net::kUserModuleName,
    .summary = net::kUserSummary,
    .option_help = net::kUserOptionHelp,
    .prepare = &net::PrepareUser,
    .create = &Create,
    .policy = policies::kNetUser,
};

}  // namespace crosvm::devices::slirp

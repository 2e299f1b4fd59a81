#include "devices/net/net_module.h"

#include "base/log.h"
#include "codec/cbor.h"
#include "codec/fd_table.h"
#include "codec/key_value.h"
#include "config/net_options.h"
#include "devices/net/net_device.h"
#include "devices/net/net_user.h"
#include "devices/net/net_wire.h"
#include "devices/net/tap_port.h"
#include "policies/net.h"
#include "sys/tap.h"

namespace crosvm::devices::net {
namespace {

// What travels from Prepare to Create.
struct NetStart {
  std::vector<codec::FdSlot> queues;
  Mac mac{};
  uint16_t mtu = 0;
  uint64_t features = 0;

  static constexpr auto Describe() {
    return Fields(Field("queues", &NetStart::queues), Field("mac", &NetStart::mac),
                  Field("mtu", &NetStart::mtu), Field("features", &NetStart::features));
  }
};

// A name pattern of the reference's.
constexpr const char* kNewTapName = "vmtap%d";

Result<sys::TapInterface> OpenTap(const config::NetOptions& options) {
  if (!options.tap_name.empty()) return sys::AttachTap(options.tap_name, options.vq_pairs);
  if (options.tap_fd) {
    // TRUST: the user says that this descriptor was passed to us; a copy is taken, so that two
    // options that name the same one do not close it twice.
    sys::UniqueFd queue =
        TRY_CONTEXT(sys::BorrowedFd(*options.tap_fd).Dup(), "tap-fd={}", *options.tap_fd);
    return sys::AdoptTap(std::move(queue), options.vq_pairs);
  }
  sys::TapInterface tap = TRY(sys::MakeTap(kNewTapName, options.vq_pairs));
  sys::TapAddress address{
      .ip = options.host_ip->bytes, .netmask = options.netmask->bytes, .mac = {}};
  if (options.host_mac) address.mac = options.host_mac->bytes;
  TRY(sys::ConfigureTap(tap.name, address));
  return tap;
}

Result<PreparedDevice> Prepare(std::string_view text) {
  const config::NetOptions options = TRY(codec::ParseKeyValue<config::NetOptions>(text));
  TRY(config::CheckNet(options));
  if (options.user) {
    return Fail(ErrorKind::kInvalidArgument, "a network without privilege is the device {}",
                kUserModuleName);
  }
  if (options.vhost_net) {
    return Fail(ErrorKind::kUnsupported,
                "--net vhost-net: not built into this version; leave it out");
  }
  sys::TapInterface tap = TRY(OpenTap(options));
  LOG_DEBUG("tap interface {}", tap.name);
  NetStart start{.queues = {},
                 .mac = options.mac ? options.mac->bytes : MakeMac(),
                 .mtu = 0,
                 .features = ProbeTapFeatures(tap.queues[0])};
  // Of a tap in another network namespace nothing is known; the driver then takes its usual MTU.
  const Result<uint32_t> mtu = sys::TapMtu(tap.name);
  if (mtu.has_value() && *mtu <= UINT16_MAX) start.mtu = static_cast<uint16_t>(*mtu);
  PreparedDevice prepared;
  for (sys::UniqueFd& queue : tap.queues)
    start.queues.push_back(prepared.fds.Put(std::move(queue)));
  prepared.start = codec::ToCbor(start);
  return prepared;
}

Result<std::unique_ptr<virtio::Device>> Create(PreparedDevice prepared,
                                               const CreateContext& context) {
  const NetStart start = TRY(codec::FromCbor<NetStart>(prepared.start, prepared.fds.size()));
  if (start.queues.empty() || start.queues.size() > kMaxPairs) {
    return Fail(ErrorKind::kProtocol, "a network device of {} pairs", start.queues.size());
  }
  std::vector<std::unique_ptr<PacketPort>> ports;
  for (const codec::FdSlot slot : start.queues) {
    ports.push_back(std::make_unique<TapPort>(TRY(prepared.fds.Take(slot))));
  }
  return std::make_unique<NetDevice>(
      context.loop, std::move(ports),
      DeviceOptions{.mac = start.mac, .mtu = start.mtu, .port_features = start.features});
}

}  // namespace

const DeviceModule kNetModule = {
    .name = "net",
    .summary = "a network interface over a tap (virtio-net)",
    .option_help =
        "tap-name=NAME|tap-fd=FD|host-ip=IP,netmask=MASK[,host-mac=MAC][,mac=MAC][,vq-pairs=N]",
    .prepare = &Prepare,
    .create = &Create,
    .policy = policies::kNet,
};

}  // namespace crosvm::devices::net

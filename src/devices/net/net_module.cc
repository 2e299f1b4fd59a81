#include "devices/net/net_module.h"

#include "codec/cbor.h"
#include "codec/fd_table.h"
#include "codec/key_value.h"
#include "config/net_options.h"
#include "devices/net/net_device.h"
#include "devices/net/net_user.h"
#include "devices/net/net_wire.h"
#include "devices/net/open_tap.h"
#include "devices/net/tap_port.h"
#include "policies/net.h"

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

Result<PreparedDevice> Prepare(std::string_view text) {
  const config::NetOptions options = TRY(codec::ParseKeyValue<config::NetOptions>(text));
  TRY(config::CheckNet(options));
  if (options.user) {
    return Fail(ErrorKind::kInvalidArgument, "a network without privilege is the device {}",
                kUserModuleName);
  }
  if (options.vhost_net) {
    return Fail(ErrorKind::kInvalidArgument,
                "vhost-net is the kernel's own: it runs with a VM only, not in a device process");
  }
  OpenedTap opened = TRY(OpenTap(options));
  NetStart start{.queues = {}, .mac = opened.mac, .mtu = opened.mtu, .features = opened.features};
  PreparedDevice prepared;
  for (sys::UniqueFd& queue : opened.tap.queues)
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
  ports.reserve(start.queues.size());
  for (const codec::FdSlot slot : start.queues) {
    ports.push_back(std::make_unique<TapPort>(TRY(prepared.fds.Take(slot))));
  }
  return NetDevice::Create(
      context.loop, std::move(ports),
      DeviceOptions{
          .mac = start.mac, .mtu = start.mtu, .port_features = start.features, .threads = true});
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

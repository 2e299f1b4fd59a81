#include "vm/kernel_devices.h"

#include "base/log.h"
#include "codec/key_value.h"
#include "devices/net/open_tap.h"
#include "devices/net/tap_port.h"
#include "vhost/net_backend.h"
#include "vhost/vsock_backend.h"

namespace crosvm::vm {
namespace {

Result<std::shared_ptr<virtio::Backend>> MakeVsock(std::string label, std::string_view option) {
  const config::VsockOptions options = TRY(codec::ParseKeyValue<config::VsockOptions>(option));
  std::unique_ptr<vhost::VhostFile> file = TRY(vhost::OpenVhost(
      options.device, "--cid",
      fmt::format("serve without the kernel: --vsock cid={},path=FOLDER", options.cid)));
  std::shared_ptr<virtio::Backend> backend =
      TRY(vhost::VsockBackend::Create(std::move(label), std::move(file), options.cid));
  return backend;
}

Result<std::shared_ptr<virtio::Backend>> MakeNet(std::string label, std::string_view option,
                                                 const std::string& device) {
  const config::NetOptions options = TRY(codec::ParseKeyValue<config::NetOptions>(option));
  TRY(config::CheckNet(options));
  if (options.vq_pairs != 1) {
    return Fail(
        ErrorKind::kUnsupported,
        "--vhost-net: {} pairs of queues; the kernel serves one here: leave out vq-pairs, or "
        "vhost-net",
        options.vq_pairs);
  }
  std::unique_ptr<vhost::VhostFile> file =
      TRY(vhost::OpenVhost(device, "--vhost-net", "leave out vhost-net"));
  devices::net::OpenedTap opened = TRY(devices::net::OpenTap(options));
  // Switches offloads as the net process would.
  auto port = std::make_shared<devices::net::TapPort>(TRY(opened.tap.queues[0].Dup()));
  std::shared_ptr<virtio::Backend> backend =
      TRY(vhost::NetBackend::Create(std::move(file), {.name = std::move(label),
                                                      .tap = std::move(opened.tap.queues[0]),
                                                      .mac = opened.mac,
                                                      .mtu = opened.mtu,
                                                      .tap_features = opened.features,
                                                      .set_offloads = [port](uint64_t features) {
                                                        const Status set =
                                                            port->SetOffloads(features);
                                                        if (!set.has_value())
                                                          LOG_WARN("{}", set.error().ToString());
                                                      }}));
  return backend;
}

}  // namespace

Result<std::shared_ptr<virtio::Backend>> MakeKernelDevice(std::string_view kind, std::string label,
                                                          std::string_view option,
                                                          const config::VmConfig& config) {
  if (kind == kKernelVsock) return MakeVsock(std::move(label), option);
  return MakeNet(std::move(label), option, config.vhost_net_device);
}

}  // namespace crosvm::vm

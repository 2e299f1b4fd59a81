#include "vhost/net_backend.h"

// The control queue's header has a member of a name that C++ reserves.
#ifdef __clang__
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wkeyword-macro"
#endif
#define class command_class
#include <linux/virtio_net.h>
#undef class
#ifdef __clang__
#pragma clang diagnostic pop
#endif

#include <cstring>

#include "virtio/types.h"

namespace crosvm::vhost {
namespace {

constexpr uint16_t kQueueSize = 256;
constexpr uint16_t kRings = 2;

// What the kernel has a part in.
constexpr uint64_t kKernelFeatures =
    virtio::FeatureBit(VIRTIO_F_VERSION_1) | virtio::FeatureBit(VIRTIO_RING_F_INDIRECT_DESC) |
    virtio::FeatureBit(VIRTIO_RING_F_EVENT_IDX) | virtio::FeatureBit(VIRTIO_NET_F_MRG_RXBUF);

}  // namespace

Result<std::unique_ptr<NetBackend>> NetBackend::Create(std::unique_ptr<VhostFile> file,
                                                       NetOptions options) {
  const uint64_t kernel_features = TRY(file->GetFeatures()) & kKernelFeatures;
  virtio_net_config config{};
  memcpy(config.mac, options.mac.data(), options.mac.size());
  config.status = VIRTIO_NET_S_LINK_UP;
  config.max_virtqueue_pairs = 1;
  config.mtu = options.mtu;
  virtio::DeviceInfo info{.device_id = VIRTIO_ID_NET,
                          .features = kernel_features | options.tap_features |
                                      virtio::FeatureBit(VIRTIO_NET_F_MAC) |
                                      virtio::FeatureBit(VIRTIO_NET_F_STATUS),
                          .queue_sizes = std::vector<uint16_t>(kRings, kQueueSize),
                          .config_size = sizeof(config)};
  if (options.mtu != 0) info.features |= virtio::FeatureBit(VIRTIO_NET_F_MTU);
  std::vector<uint8_t> bytes(sizeof(config));
  memcpy(bytes.data(), &config, sizeof(config));
  return std::unique_ptr<NetBackend>(new NetBackend(
      std::move(file), std::move(options), std::move(info), std::move(bytes), kernel_features));
}

NetBackend::NetBackend(std::unique_ptr<VhostFile> file, NetOptions options, virtio::DeviceInfo info,
                       std::vector<uint8_t> config, uint64_t kernel_features)
    : KernelBackend(std::move(options.name), std::move(file), std::move(info), std::move(config),
                    kernel_features, kRings),
      tap_(std::move(options.tap)),
      set_offloads_(std::move(options.set_offloads)) {
}

NetBackend::~NetBackend() = default;

Status NetBackend::StartData(uint64_t features) {
  set_offloads_(features);
  for (uint16_t ring = 0; ring < kRings; ++ring) TRY(file().SetNetBackend(ring, tap_));
  return {};
}

Status NetBackend::StopData() {
  Status status;
  for (uint16_t ring = 0; ring < kRings; ++ring) {
    Status stopped = file().SetNetBackend(ring, sys::BorrowedFd());
    if (status.has_value()) status = std::move(stopped);
  }
  return status;
}

}  // namespace crosvm::vhost

#include "vm/foreign_devices.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_console.h>
#include <linux/virtio_fs.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_vsock.h>
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

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "config/shared_dir_options.h"
#include "virtio/types.h"

namespace crosvm::vm {
namespace {

using virtio::FeatureBit;

constexpr uint16_t kQueueSize = 256;

// A network back-end mostly has the two data queues of each pair, and leaves the control queue to a
// front-end that has one of its own; ours has not. What needs it goes with it
// (virtio 1.2, 5.1.3.1).
uint64_t FittingNetFeatures(uint64_t features) {
  constexpr unsigned kNotificationCoalescing = 53;
  // Beyond the configuration space that is shown.
  features &= ~(FeatureBit(VIRTIO_NET_F_RSS) | FeatureBit(VIRTIO_NET_F_HASH_REPORT) |
                FeatureBit(VIRTIO_NET_F_SPEED_DUPLEX) | FeatureBit(VIRTIO_NET_F_STANDBY) |
                FeatureBit(kNotificationCoalescing));
  if ((features & FeatureBit(VIRTIO_NET_F_CTRL_VQ)) != 0) return features;
  return features &
         ~(FeatureBit(VIRTIO_NET_F_MQ) | FeatureBit(VIRTIO_NET_F_CTRL_RX) |
           FeatureBit(VIRTIO_NET_F_CTRL_VLAN) | FeatureBit(VIRTIO_NET_F_CTRL_RX_EXTRA) |
           FeatureBit(VIRTIO_NET_F_CTRL_MAC_ADDR) | FeatureBit(VIRTIO_NET_F_GUEST_ANNOUNCE) |
           FeatureBit(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS));
}

// GET_QUEUE_NUM is the number of pairs to some back-ends, and of queues to others. More than one
// pair needs the control queue, and who serves that counts queues.
uint64_t NetQueues(uint64_t features, uint64_t answer) {
  if ((features & FeatureBit(VIRTIO_NET_F_CTRL_VQ)) == 0) return 2;
  return (features & FeatureBit(VIRTIO_NET_F_MQ)) == 0 ? 3 : answer;
}

vhost_user::FrontendOptions ForeignNet() {
  constexpr size_t kMaxPairs = 16;
  constexpr uint32_t kConfigBytes = offsetof(virtio_net_config, speed);
  vhost_user::FrontendOptions options;
  options.info.device_id = VIRTIO_ID_NET;
  options.info.queue_sizes.assign(2 * kMaxPairs + 1, kQueueSize);
  options.info.config_size = kConfigBytes;
  options.queue_count = &NetQueues;
  options.fitting = &FittingNetFeatures;
  // Most have no configuration space: a link that is up. The driver then makes an address itself.
  virtio_net_config config{};
  config.status = VIRTIO_NET_S_LINK_UP;
  config.max_virtqueue_pairs = 1;
  options.local_config.resize(kConfigBytes);
  memcpy(options.local_config.data(), &config, kConfigBytes);
  return options;
}

vhost_user::FrontendOptions ForeignFs(std::string_view tag) {
  constexpr size_t kMaxRequestQueues = 16;
  constexpr uint16_t kFsQueueSize = 1024;
  vhost_user::FrontendOptions options;
  options.info.device_id = VIRTIO_ID_FS;
  options.info.queue_sizes.assign(1 + kMaxRequestQueues, kFsQueueSize);
  options.info.config_size = sizeof(virtio_fs_config);
  // Most leave the configuration space, with the tag, to the front-end.
  virtio_fs_config config{};
  memcpy(config.tag, tag.data(), std::min(tag.size(), sizeof(config.tag)));
  config.num_request_queues = 1;
  options.local_config.resize(sizeof(config));
  memcpy(options.local_config.data(), &config, sizeof(config));
  // A DAX window, of the size that it asks for.
  options.max_shared_memory = uint64_t{config::kMaxDaxWindow} << 20;
  return options;
}

}  // namespace

Result<vhost_user::FrontendOptions> ForeignDevice(std::string_view kind, std::string_view tag) {
  vhost_user::FrontendOptions options;
  if (kind == "net") return ForeignNet();
  if (kind == "fs") return ForeignFs(tag);
  if (kind == "blk") {
    options.info.device_id = VIRTIO_ID_BLOCK;
    options.info.queue_sizes.assign(16, kQueueSize);
    options.info.config_size = sizeof(virtio_blk_config);
  } else if (kind == "vsock") {
    options.info.device_id = VIRTIO_ID_VSOCK;
    options.info.queue_sizes.assign(3, kQueueSize);
    options.info.config_size = sizeof(virtio_vsock_config);
  } else if (kind == "console") {
    options.info.device_id = VIRTIO_ID_CONSOLE;
    options.info.queue_sizes.assign(2, kQueueSize);
    options.info.config_size = sizeof(virtio_console_config);
  } else {
    return Fail(ErrorKind::kUnsupported, "--vhost-user-{} is not built into this version", kind);
  }
  return options;
}

}  // namespace crosvm::vm

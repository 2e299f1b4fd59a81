#include "vhost/vsock_backend.h"

#include <linux/virtio_vsock.h>

#include <cstring>

#include "base/endian.h"
#include "virtio/types.h"

namespace crosvm::vhost {
namespace {

constexpr uint16_t kQueueSize = 256;
constexpr uint16_t kQueues = 3;
// The event queue is not the kernel's: it would tell of a migration.
constexpr uint16_t kKernelRings = 2;

constexpr uint64_t kOffered =
    virtio::FeatureBit(VIRTIO_F_VERSION_1) | virtio::FeatureBit(VIRTIO_RING_F_INDIRECT_DESC) |
    virtio::FeatureBit(VIRTIO_RING_F_EVENT_IDX) | virtio::FeatureBit(VIRTIO_VSOCK_F_SEQPACKET);

}  // namespace

Result<std::unique_ptr<VsockBackend>> VsockBackend::Create(std::string name,
                                                           std::unique_ptr<VhostFile> file,
                                                           uint64_t cid) {
  const uint64_t features = TRY(file->GetFeatures()) & kOffered;
  const Status taken = file->SetGuestCid(cid);
  if (!taken.has_value() && taken.error().sys_errno() == EADDRINUSE) {
    return Fail(ErrorKind::kBusy, "--cid {}: another VM of this host has it; choose another", cid);
  }
  if (!taken.has_value()) return std::unexpected(taken.error().Clone().Context("--cid"));
  const Le64 config = cid;
  std::vector<uint8_t> bytes(sizeof(config));
  memcpy(bytes.data(), &config, sizeof(config));
  virtio::DeviceInfo info{.device_id = VIRTIO_ID_VSOCK,
                          .features = features,
                          .queue_sizes = std::vector<uint16_t>(kQueues, kQueueSize),
                          .config_size = sizeof(config)};
  return std::unique_ptr<VsockBackend>(new VsockBackend(
      std::move(name), std::move(file), std::move(info), std::move(bytes), features, kKernelRings));
}

VsockBackend::~VsockBackend() = default;

Status VsockBackend::StartData(uint64_t) {
  return file().SetRunning(true);
}

Status VsockBackend::StopData() {
  return file().SetRunning(false);
}

}  // namespace crosvm::vhost

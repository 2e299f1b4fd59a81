// Numbers of the virtio specification 1.2 that are not in the kernel's headers in the form we use.
#pragma once

// The legacy helpers of virtio_ring.h are not valid C++.
#define VIRTIO_RING_NO_LEGACY 1

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>

#include <cstdint>

namespace crosvm::virtio {

constexpr uint64_t FeatureBit(unsigned bit) {
  return uint64_t{1} << bit;
}

// Linux' 6.1 headers lack it; virtio 1.2, 6.
inline constexpr unsigned kFeatureRingReset = 40;  // VIRTIO_F_RING_RESET

// What every queue of ours can do; devices add their own bits to it.
inline constexpr uint64_t kQueueFeatures =
    FeatureBit(VIRTIO_F_VERSION_1) | FeatureBit(VIRTIO_F_RING_PACKED) |
    FeatureBit(VIRTIO_RING_F_INDIRECT_DESC) | FeatureBit(VIRTIO_RING_F_EVENT_IDX) |
    FeatureBit(kFeatureRingReset);

inline constexpr uint16_t kMaxQueueSize = 32768;  // virtio 1.2, 2.7 and 2.8.10.1

}  // namespace crosvm::virtio

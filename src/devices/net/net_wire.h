// Numbers of virtio-net (virtio 1.2, 5.1) that the kernel's headers lack or have in another form.
#pragma once

#include <linux/if_tun.h>

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

#include <cstddef>

#include "virtio/types.h"

namespace crosvm::devices::net {

// UDP segmentation; Linux' headers have these since 6.2.
inline constexpr unsigned kFeatureGuestUso4 = 54;  // VIRTIO_NET_F_GUEST_USO4
inline constexpr unsigned kFeatureGuestUso6 = 55;  // VIRTIO_NET_F_GUEST_USO6
inline constexpr unsigned kFeatureHostUso = 56;    // VIRTIO_NET_F_HOST_USO
inline constexpr unsigned kTunUso4 = 0x20;         // TUN_F_USO4
inline constexpr unsigned kTunUso6 = 0x40;         // TUN_F_USO6

// Those features that VIRTIO_NET_CTRL_GUEST_OFFLOADS may switch.
inline constexpr uint64_t kGuestOffloads =
    virtio::FeatureBit(VIRTIO_NET_F_GUEST_CSUM) | virtio::FeatureBit(VIRTIO_NET_F_GUEST_TSO4) |
    virtio::FeatureBit(VIRTIO_NET_F_GUEST_TSO6) | virtio::FeatureBit(VIRTIO_NET_F_GUEST_ECN) |
    virtio::FeatureBit(VIRTIO_NET_F_GUEST_UFO) | virtio::FeatureBit(kFeatureGuestUso4) |
    virtio::FeatureBit(kFeatureGuestUso6);
// Those that let frames come that are longer than the MTU.
inline constexpr uint64_t kGuestSegmentation =
    kGuestOffloads &
    ~(virtio::FeatureBit(VIRTIO_NET_F_GUEST_CSUM) | virtio::FeatureBit(VIRTIO_NET_F_GUEST_ECN));

inline constexpr uint16_t kMaxPairs = 16;
inline constexpr size_t kMaxMacTableEntries =
    64;  // of each kind; more turn the filter off for that kind

}  // namespace crosvm::devices::net

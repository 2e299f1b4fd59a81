// The packets of virtio-vsock (virtio 1.2, 5.10.6). Operations and flags are those of
// linux/virtio_vsock.h.
#pragma once

#include <linux/virtio_vsock.h>

#include <cstdint>

#include "base/endian.h"

namespace crosvm::devices::vsock {

struct PacketHeader {
  Le64 src_cid;
  Le64 dst_cid;
  Le32 src_port;
  Le32 dst_port;
  Le32 len;
  Le16 type;
  Le16 op;
  Le32 flags;
  Le32 buf_alloc;
  Le32 fwd_cnt;
};
static_assert(sizeof(PacketHeader) == sizeof(virtio_vsock_hdr));

inline constexpr uint64_t kHostCid = 2;  // virtio 1.2, 5.10.4
inline constexpr uint32_t kAnyPort = UINT32_MAX;
inline constexpr unsigned kFeatureStream = 0;  // VIRTIO_VSOCK_F_STREAM

inline constexpr uint32_t kShutdownBoth = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND;

// Payload of one packet, at most: what Linux' driver can take and sends.
inline constexpr uint32_t kMaxPayload = 64 << 10;

}  // namespace crosvm::devices::vsock

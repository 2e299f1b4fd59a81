// Request layout of virtio-blk (virtio 1.2, 5.2.6) in types that are safe to copy from guest
// memory. The numbers are those of <linux/virtio_blk.h>.
#pragma once

#include <linux/virtio_blk.h>

#include "base/endian.h"

namespace crosvm::devices::block {

inline constexpr uint64_t kSectorBytes = 512;

struct RequestHeader {
  Le32 type;
  Le32 reserved;
  Le64 sector;
};
static_assert(sizeof(RequestHeader) == 16);

// One range of VIRTIO_BLK_T_DISCARD or VIRTIO_BLK_T_WRITE_ZEROES.
struct RangeSegment {
  Le64 sector;
  Le32 sectors;
  Le32 flags;  // bit 0: unmap (write zeroes only); the others must be zero
};
static_assert(sizeof(RangeSegment) == 16);

inline constexpr uint32_t kMaxRangeSegments = 32;
inline constexpr uint32_t kSegMax = 254;  // data descriptors of a request, beside header and status

}  // namespace crosvm::devices::block

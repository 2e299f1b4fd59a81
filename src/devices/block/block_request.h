// Turns a descriptor chain into a validated request. Pure: no I/O, so it is what the fuzzer drives.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "devices/block/block_wire.h"
#include "memory/guest_slice.h"
#include "virtio/chain.h"

namespace crosvm::devices::block {

enum class RequestStatus : uint8_t {
  kOk = VIRTIO_BLK_S_OK,
  kIoError = VIRTIO_BLK_S_IOERR,
  kUnsupported = VIRTIO_BLK_S_UNSUPP,
};

// The disk as a request sees it.
struct DiskLimits {
  uint64_t capacity_bytes = 0;
  bool read_only = false;
  bool discard = false;  // offered to the driver
};

struct ByteRange {
  uint64_t offset = 0;
  uint64_t length = 0;
  bool may_unmap = false;
};

enum class Operation : uint8_t { kRead, kWrite, kFlush, kGetId, kDiscard, kWriteZeroes };

// What to do, all bounds checked: offsets and lengths lie within the disk. `error` other than kOk
// means that nothing is to be done but to answer with it.
struct Request {
  RequestStatus error = RequestStatus::kOk;
  Operation operation = Operation::kRead;
  uint64_t offset = 0;  // bytes; kRead, kWrite
  uint64_t length = 0;
  std::vector<memory::GuestSlice> data;  // kRead (writable), kWrite (readable), kGetId (writable)
  std::vector<ByteRange> ranges;         // kDiscard, kWriteZeroes
  memory::GuestSlice status;             // one byte
  uint64_t writable_bytes = 0;           // of the chain, status included

  void Clear();
};

// Fills `request` (cleared first; its vectors keep their memory). False when the chain has no room
// for a status byte: the driver then gets the chain back untouched.
[[nodiscard]] bool ParseRequest(const virtio::Chain& chain, const DiskLimits& limits,
                                Request& request);

}  // namespace crosvm::devices::block

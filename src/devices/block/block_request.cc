#include "devices/block/block_request.h"

#include "base/checked_math.h"

namespace crosvm::devices::block {
namespace {

using virtio::SliceReader;
using virtio::SliceWriter;

// The byte offset of a range of sectors that lies on the disk; empty when it does not.
std::optional<uint64_t> CheckedOffset(uint64_t sector, uint64_t bytes, const DiskLimits& limits) {
  const std::optional<uint64_t> offset = CheckedMul(sector, kSectorBytes);
  if (!offset || !RangeFits(*offset, bytes, limits.capacity_bytes)) return std::nullopt;
  return offset;
}

RequestStatus ParseTransfer(uint64_t sector, bool write, SliceReader& reader, SliceWriter& writer,
                            const DiskLimits& limits, Request& request) {
  const uint64_t length = write ? reader.remaining() : writer.remaining() - 1;
  if (length % kSectorBytes != 0) return RequestStatus::kIoError;
  const std::optional<uint64_t> offset = CheckedOffset(sector, length, limits);
  if (!offset) return RequestStatus::kIoError;
  if (write && limits.read_only) return RequestStatus::kIoError;
  request.operation = write ? Operation::kWrite : Operation::kRead;
  request.offset = *offset;
  request.length = length;
  const bool taken = write ? reader.Take(length, request.data) : writer.Take(length, request.data);
  return taken ? RequestStatus::kOk : RequestStatus::kIoError;
}

RequestStatus ParseRanges(bool discard, SliceReader& reader, const DiskLimits& limits,
                          Request& request) {
  if (limits.read_only) return RequestStatus::kIoError;
  if (discard && !limits.discard) return RequestStatus::kUnsupported;
  const uint64_t bytes = reader.remaining();
  if (bytes == 0 || bytes % sizeof(RangeSegment) != 0) return RequestStatus::kIoError;
  if (bytes / sizeof(RangeSegment) > kMaxRangeSegments) return RequestStatus::kIoError;
  request.operation = discard ? Operation::kDiscard : Operation::kWriteZeroes;
  while (const std::optional<RangeSegment> segment = reader.Read<RangeSegment>()) {
    const uint32_t flags = segment->flags;
    const bool unmap = (flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) != 0;
    // virtio 1.2, 5.2.6.2: unknown flags, and unmap for a discard, are answered with UNSUPP.
    if ((flags & ~uint32_t{VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP}) != 0 || (discard && unmap)) {
      return RequestStatus::kUnsupported;
    }
    const uint64_t length = uint64_t{segment->sectors} * kSectorBytes;
    const std::optional<uint64_t> offset = CheckedOffset(segment->sector, length, limits);
    if (!offset) return RequestStatus::kIoError;
    // A disk that is not to get holes gets none by this way either.
    request.ranges.push_back({*offset, length, unmap && limits.discard});
  }
  return RequestStatus::kOk;
}

RequestStatus ParseBody(const RequestHeader& header, SliceReader& reader, SliceWriter& writer,
                        const DiskLimits& limits, Request& request) {
  const uint32_t type = header.type;
  switch (type) {
    case VIRTIO_BLK_T_IN:
    case VIRTIO_BLK_T_OUT:
      return ParseTransfer(header.sector, type == VIRTIO_BLK_T_OUT, reader, writer, limits,
                           request);
    case VIRTIO_BLK_T_FLUSH:
      request.operation = Operation::kFlush;
      // A read-only disk has nothing to flush, and says yes.
      return RequestStatus::kOk;
    case VIRTIO_BLK_T_GET_ID:
      request.operation = Operation::kGetId;
      return writer.Take(writer.remaining() - 1, request.data) ? RequestStatus::kOk
                                                               : RequestStatus::kIoError;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
      return ParseRanges(type == VIRTIO_BLK_T_DISCARD, reader, limits, request);
    default:
      return RequestStatus::kUnsupported;
  }
}

}  // namespace

void Request::Clear() {
  error = RequestStatus::kOk;
  operation = Operation::kRead;
  offset = 0;
  length = 0;
  data.clear();
  ranges.clear();
  status = {};
  writable_bytes = 0;
}

bool ParseRequest(const virtio::Chain& chain, const DiskLimits& limits, Request& request) {
  request.Clear();
  request.writable_bytes = chain.writable_bytes();
  if (chain.writable_bytes() == 0) return false;
  // The status is the last writable byte, however the driver has cut its buffers
  // (virtio 1.2, 2.7.4).
  const memory::GuestSlice last = chain.writable().back();
  request.status = last.Sub(last.size() - 1, 1);

  SliceReader reader(chain.readable());
  SliceWriter writer(chain.writable());
  const std::optional<RequestHeader> header = reader.Read<RequestHeader>();
  request.error =
      header ? ParseBody(*header, reader, writer, limits, request) : RequestStatus::kIoError;
  return true;
}

}  // namespace crosvm::devices::block

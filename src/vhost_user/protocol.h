// Numbers and wire structs of the vhost-user protocol (QEMU's docs/interop/vhost-user). Both ends
// are on one host; all fields are little-endian here because the hosts we run on are.
#pragma once

#include <cstdint>

#include "base/endian.h"

namespace crosvm::vhost_user {

enum class Request : uint32_t {
  kGetFeatures = 1,
  kSetFeatures = 2,
  kSetOwner = 3,
  kResetOwner = 4,
  kSetMemTable = 5,
  kSetVringNum = 8,
  kSetVringAddr = 9,
  kSetVringBase = 10,
  kGetVringBase = 11,
  kSetVringKick = 12,
  kSetVringCall = 13,
  kSetVringErr = 14,
  kGetProtocolFeatures = 15,
  kSetProtocolFeatures = 16,
  kGetQueueNum = 17,
  kSetVringEnable = 18,
  kSetBackendReqFd = 21,
  kGetConfig = 24,
  kSetConfig = 25,
  kGetInflightFd = 31,
  kSetInflightFd = 32,
  kResetDevice = 34,
  kSetStatus = 39,
  kGetStatus = 40,
  kGetShmemConfig = 44,
};

// On the backend-request channel.
enum class BackendRequest : uint32_t {
  kConfigChange = 2,
  kShmemMap = 9,
  kShmemUnmap = 10,
};

// Bit of the virtio feature word that is about the protocol: protocol features are spoken, rings
// begin disabled.
inline constexpr uint64_t kFeatureProtocol = uint64_t{1} << 30;

enum ProtocolFeature : uint64_t {
  kProtocolMq = uint64_t{1} << 0,
  kProtocolReplyAck = uint64_t{1} << 3,
  kProtocolBackendReq = uint64_t{1} << 5,
  kProtocolConfig = uint64_t{1} << 9,
  kProtocolInflightShmfd = uint64_t{1} << 12,
  kProtocolResetDevice = uint64_t{1} << 13,
  kProtocolStatus = uint64_t{1} << 16,
  kProtocolShmem = uint64_t{1} << 22,  // VHOST_USER_PROTOCOL_F_SHMEM_MAP
};

inline constexpr uint32_t kFlagVersion = 1;
inline constexpr uint32_t kFlagVersionMask = 3;
inline constexpr uint32_t kFlagReply = 1 << 2;
inline constexpr uint32_t kFlagNeedReply = 1 << 3;

struct Header {
  Le32 request;
  Le32 flags;
  Le32 size;  // of the payload
};
static_assert(sizeof(Header) == 12);

struct U64 {
  Le64 value;
};

struct VringState {
  Le32 index;
  Le32 num;
};
static_assert(sizeof(VringState) == 8);

struct VringAddr {
  Le32 index;
  Le32 flags;
  Le64 descriptor;  // addresses in the front-end's own terms, see MemoryRegion::user_address
  Le64 used;
  Le64 available;
  Le64 log;
};
static_assert(sizeof(VringAddr) == 40);

struct MemoryHeader {
  Le32 count;
  Le32 padding;
};

struct MemoryRegion {
  Le64 guest_address;
  Le64 size;
  Le64 user_address;
  Le64 mmap_offset;
};
static_assert(sizeof(MemoryRegion) == 32);

struct ConfigHeader {
  Le32 offset;
  Le32 size;
  Le32 flags;
};
static_assert(sizeof(ConfigHeader) == 12);

struct Inflight {
  Le64 mmap_size;
  Le64 mmap_offset;
  Le16 queues;
  Le16 queue_size;
  Le32 padding;  // peers send the C struct, with its padding
};
static_assert(sizeof(Inflight) == 24);
inline constexpr size_t kInflightWithoutPadding = 20;

// The answer to GET_SHMEM_CONFIG: the size of the region of each id, 0 where there is none.
inline constexpr size_t kMaxShmemRegions = 256;
struct ShmemConfig {
  Le32 count;  // of those that are not 0
  Le32 padding;
  Le64 sizes[kMaxShmemRegions];
};
static_assert(sizeof(ShmemConfig) == 2056);

// SHMEM_MAP, with the file; and SHMEM_UNMAP, where only the range counts.
struct ShmemMapping {
  uint8_t region;
  uint8_t padding[7];
  Le64 file_offset;
  Le64 offset;
  Le64 length;
  Le64 flags;
};
static_assert(sizeof(ShmemMapping) == 40);
inline constexpr uint64_t kShmemWritable = 1;  // the only flag

// SET_VRING_KICK, _CALL and _ERR: the index in the low byte, and whether no descriptor is sent.
inline constexpr uint64_t kVringIndexMask = 0xff;
inline constexpr uint64_t kVringNoFd = 1 << 8;

inline constexpr uint32_t kMaxConfigSize = 256;
// Regions in a memory table that every back-end takes; ours takes as many as descriptors fit a
// message.
inline constexpr size_t kCommonMaxRegions = 8;
// No payload that we know is longer than a memory table of 32 regions.
inline constexpr uint32_t kMaxPayload = 4096;
// The index in SET_VRING_KICK has 8 bits.
inline constexpr size_t kMaxQueues = 256;

}  // namespace crosvm::vhost_user

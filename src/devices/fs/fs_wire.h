// FUSE over virtio: what Debian 12's <linux/fuse.h> (7.37) lacks of 7.39, which Linux 6.6 and later
// speak, and limits of ours.
#pragma once

#include <linux/fuse.h>
#include <linux/virtio_fs.h>

#include <cstdint>

namespace crosvm::devices::fs {

inline constexpr uint32_t kMajor = 7;
inline constexpr uint32_t kMinor = 39;
// Older kernels have other structs (Linux 4.20, 2018).
inline constexpr uint32_t kOldestMinor = 28;

inline constexpr uint32_t kOpStatx = 52;  // FUSE_STATX
inline constexpr uint64_t kDirectIoAllowMmap = 1ULL << 36;

struct StatxIn {
  uint32_t getattr_flags;
  uint32_t reserved;
  uint64_t fh;
  uint32_t sx_flags;
  uint32_t sx_mask;
};

struct SxTime {
  int64_t tv_sec;
  uint32_t tv_nsec;
  int32_t reserved;
};

struct WireStatx {
  uint32_t mask;
  uint32_t blksize;
  uint64_t attributes;
  uint32_t nlink;
  uint32_t uid;
  uint32_t gid;
  uint16_t mode;
  uint16_t spare0;
  uint64_t ino;
  uint64_t size;
  uint64_t blocks;
  uint64_t attributes_mask;
  SxTime atime;
  SxTime btime;
  SxTime ctime;
  SxTime mtime;
  uint32_t rdev_major;
  uint32_t rdev_minor;
  uint32_t dev_major;
  uint32_t dev_minor;
  uint64_t spare2[14];
};
static_assert(sizeof(WireStatx) == 256);

struct StatxOut {
  uint64_t attr_valid;
  uint32_t attr_valid_nsec;
  uint32_t flags;
  uint64_t spare[2];
  WireStatx stat;
};

// One READ or WRITE. In pages it also bounds what the guest's kernel puts into one chain.
inline constexpr uint32_t kMaxTransfer = 1U << 20;
inline constexpr uint16_t kMaxPages = kMaxTransfer / 4096;
// Arguments of every other request: a name or two, or an extended attribute (at most 64 KiB).
inline constexpr uint32_t kMaxArguments = (64U << 10) + 4096;
// Entries of one request that need not stand behind one another in the guest's memory: a chain's
// parts may overlap, so that its length says nothing. Linux unmaps at most a page of ranges at a
// time (FUSE_REMOVEMAPPING_MAX_ENTRY), and over virtio forgets one file by each request; by
// /dev/fuse as many as fit the reader's buffer.
inline constexpr uint32_t kMaxUnmappings = 4096 / sizeof(fuse_removemapping_one);
inline constexpr uint32_t kMaxForgets = kMaxTransfer / sizeof(fuse_forget_one);
// What a directory is read in, and the longest answer to READDIR that is used.
inline constexpr uint32_t kMaxDirectoryBytes = 64U << 10;

// FUSE_MAP_ALIGNMENT: files and the DAX window are mapped by pages; as a power of two.
inline constexpr uint16_t kMapAlignment = 12;

inline constexpr uint16_t kQueueSize = 1024;
inline constexpr uint32_t kMaxRequestQueues = 16;
inline constexpr uint32_t kMaxWorkers = 64;

}  // namespace crosvm::devices::fs

// A directory of the host that the guest sees: `--shared-dir`.
#pragma once

#include <cstdint>
#include <string>

#include "base/describe.h"
#include "base/result.h"

namespace crosvm::config {

enum class SharedDirType : uint8_t { k9p, kFs };
constexpr auto DescribeEnum(SharedDirType) {
  return EnumNames<SharedDirType>({{SharedDirType::k9p, "9p"},
                                   {SharedDirType::k9p, "9P"},
                                   {SharedDirType::k9p, "p9"},
                                   {SharedDirType::k9p, "P9"},
                                   {SharedDirType::kFs, "fs"},
                                   {SharedDirType::kFs, "FS"}});
}

enum class FsCache : uint8_t { kNever, kAuto, kAlways };
constexpr auto DescribeEnum(FsCache) {
  return EnumNames<FsCache>(
      {{FsCache::kNever, "never"}, {FsCache::kAuto, "auto"}, {FsCache::kAlways, "always"}});
}

enum class FsDax : uint8_t { kNever, kAlways };
constexpr auto DescribeEnum(FsDax) {
  return EnumNames<FsDax>({{FsDax::kNever, "never"},
                           {FsDax::kAlways, "always"},
                           {FsDax::kNever, "false"},
                           {FsDax::kAlways, "true"}});
}

// MiB. The VMM has room for no more mappings than a few windows of this size take.
inline constexpr uint32_t kMaxDaxWindow = 16384;

struct SharedDirOptions {
  std::string path;
  std::string tag;
  SharedDirType type = SharedDirType::k9p;
  std::string uidmap;
  std::string gidmap;
  uint64_t timeout = 5;
  FsCache cache = FsCache::kAuto;
  bool writeback = false;
  bool rewrite_security_xattrs = false;
  bool ascii_casefold = false;
  bool ro = false;
  bool posix_acl = false;
  uint32_t max_open = 0;
  uint32_t queues = 1;
  uint32_t threads = 0;
  FsDax dax = FsDax::kNever;
  uint32_t dax_window = 1024;

  bool operator==(const SharedDirOptions&) const = default;
  static constexpr auto Describe() {
    return Fields(
        Field("path", &SharedDirOptions::path, "the directory").Positional(),
        // virtio 1.2, 5.11.4: the tag's field has 36 bytes.
        Field("tag", &SharedDirOptions::tag,
              "the name by which the guest mounts it, at most 36 bytes")
            .Positional()
            .MaxLength(36),
        Field("type", &SharedDirOptions::type, "the protocol: 9P or virtio-fs"),
        Field("uidmap", &SharedDirOptions::uidmap,
              "user ids of the device's namespace: INSIDE OUTSIDE COUNT[,…]"),
        Field("gidmap", &SharedDirOptions::gidmap, "group ids, likewise"),
        Field("timeout", &SharedDirOptions::timeout,
              "seconds the guest may cache names and attributes"),
        Field("cache", &SharedDirOptions::cache, "when the guest may cache contents"),
        Field("writeback", &SharedDirOptions::writeback, "let the guest delay writes"),
        Field("rewrite-security-xattrs", &SharedDirOptions::rewrite_security_xattrs,
              "store security.* attributes under a name of our own"),
        Field("ascii_casefold", &SharedDirOptions::ascii_casefold, "ignore case in names"),
        Field("ro", &SharedDirOptions::ro, "refuse changes"),
        Field("posix_acl", &SharedDirOptions::posix_acl, "let the guest use access control lists"),
        Field("max-open", &SharedDirOptions::max_open,
              "files the guest may have open at once; 0: as many as the limits allow")
            .Range(0, 1U << 20),
        Field("queues", &SharedDirOptions::queues, "request queues (type=fs)").Range(1, 16),
        Field("threads", &SharedDirOptions::threads,
              "threads that serve the directory; 0: by the number of CPUs")
            .Range(0, 64),
        Field("dax", &SharedDirOptions::dax,
              "let the guest map files of the host as memory of its own (type=fs)"),
        // Linux maps 2 MiB at a time.
        Field("dax-window", &SharedDirOptions::dax_window,
              "MiB of files that the guest has mapped at a time; an even number")
            .Range(2, kMaxDaxWindow));
  }
};

// The form that ParseKeyValue reads with ':' between the items.
inline constexpr char kSharedDirSeparator = ':';

// What the fields' own ranges cannot say.
Status CheckSharedDir(const SharedDirOptions& options);
// The part of it that is about `dax-window`.
Status CheckDaxWindow(const SharedDirOptions& options);

}  // namespace crosvm::config

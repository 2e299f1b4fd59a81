// The virtual socket device: `--vsock`, `--cid`. With a path a process of ours serves it by Unix
// sockets, without one the host's kernel does.
#pragma once

#include <cstdint>
#include <string>

#include "base/describe.h"

namespace crosvm::config {

struct VsockOptions {
  uint64_t cid = 3;
  std::string device = "/dev/vhost-vsock";
  std::string path;

  bool operator==(const VsockOptions&) const = default;
  static constexpr auto Describe() {
    return Fields(
        // 0 to 2 are the hypervisor's, the loop's and the host's; 2^32-1 is "any".
        Field("cid", &VsockOptions::cid, "the guest's context id, from 3")
            .Positional()
            .Range(3, UINT32_MAX - 1),
        Field("device", &VsockOptions::device, "the host kernel's vhost device"),
        Field("path", &VsockOptions::path,
              "serve without the host's kernel: port P of the host is the Unix socket P in this "
              "folder"));
  }
};

}  // namespace crosvm::config

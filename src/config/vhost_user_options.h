// A device that a foreign process serves: `--vhost-user-blk` and its siblings.
#pragma once

#include <cstdint>
#include <string>

#include "base/describe.h"

namespace crosvm::config {

enum class VhostUserType : uint8_t { kBlock, kConsole, kNet, kFs, kVsock };
constexpr auto DescribeEnum(VhostUserType) {
  return EnumNames<VhostUserType>({{VhostUserType::kBlock, "blk"},
                                   {VhostUserType::kConsole, "console"},
                                   {VhostUserType::kNet, "net"},
                                   {VhostUserType::kFs, "fs"},
                                   {VhostUserType::kVsock, "vsock"}});
}

struct VhostUserOptions {
  VhostUserType type = VhostUserType::kBlock;
  std::string socket;
  std::string tag;

  bool operator==(const VhostUserOptions&) const = default;
  static constexpr auto Describe() {
    return Fields(
        Field("type", &VhostUserOptions::type, "the kind of device").Required(),
        Field("socket", &VhostUserOptions::socket, "the process' Unix socket").Required(),
        Field("tag", &VhostUserOptions::tag, "of fs: the name by which the guest mounts it")
            .MaxLength(36));
  }
};

}  // namespace crosvm::config

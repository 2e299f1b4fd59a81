// A disk: `--block`, `--disk`, `--rwdisk`, `--root`, `--rwroot`, and what `crosvm device block`
// takes.
#pragma once

#include <cstdint>
#include <string>

#include "base/describe.h"
#include "base/result.h"

namespace crosvm::config {

enum class BlockEngine : uint8_t { kAuto, kUring, kPool };
constexpr auto DescribeEnum(BlockEngine) {
  return EnumNames<BlockEngine>({{BlockEngine::kAuto, "auto"},
                                 {BlockEngine::kUring, "io_uring"},
                                 {BlockEngine::kPool, "pool"}});
}

struct BlockOptions {
  std::string path;
  bool ro = false;
  bool root = false;
  bool sparse = true;
  uint32_t block_size = 512;
  std::string id;
  bool direct = false;
  uint16_t queues = 1;
  BlockEngine engine = BlockEngine::kAuto;

  bool operator==(const BlockOptions&) const = default;
  static constexpr auto Describe() {
    return Fields(
        Field("path", &BlockOptions::path, "disk image or block device").Positional(),
        Field("ro", &BlockOptions::ro, "refuse writes"),
        Field("root", &BlockOptions::root,
              "boot from it: adds root=/dev/vdX to the kernel's parameters"),
        Field("sparse", &BlockOptions::sparse, "let the guest discard blocks (punches holes)"),
        Field("block_size", &BlockOptions::block_size, "logical block size in bytes")
            .Size()
            .Range(512, 65536),
        Field("id", &BlockOptions::id, "serial number the guest sees, at most 20 bytes")
            .MaxLength(20),
        Field("direct", &BlockOptions::direct, "bypass the host's page cache (O_DIRECT)"),
        Field("queues", &BlockOptions::queues, "request queues, 1 to 16").Range(1, 16),
        Field("engine", &BlockOptions::engine, "how the image is read and written"));
  }
};

// What the fields' own ranges cannot say.
Status CheckBlockOptions(const BlockOptions& options);

// The text that the block module's Prepare takes: all but `root`, which concerns the kernel's
// parameters only.
std::string DeviceOption(const BlockOptions& options);

}  // namespace crosvm::config

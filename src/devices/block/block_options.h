// What a user may say of a disk: `--disk PATH,key=value,…` and its siblings. Plain data; used by
// config/ and the module.
#pragma once

#include <cstdint>
#include <string>

#include "base/describe.h"

namespace crosvm::devices::block {

enum class Engine : uint8_t { kAuto, kUring, kPool };
constexpr auto DescribeEnum(Engine) {
  return EnumNames<Engine>(
      {{Engine::kAuto, "auto"}, {Engine::kUring, "io_uring"}, {Engine::kPool, "pool"}});
}

// The device's serial number is at most this long (virtio 1.2, 5.2.6: VIRTIO_BLK_ID_BYTES).
inline constexpr size_t kMaxIdBytes = 20;
inline constexpr uint16_t kMaxQueues = 16;

struct Options {
  std::string path;
  bool ro = false;
  bool sparse = true;
  uint32_t block_size = 512;
  std::string id;
  bool direct = false;
  uint16_t queues = 1;
  Engine engine = Engine::kAuto;

  static constexpr auto Describe() {
    return Fields(
        Field("path", &Options::path, "the image file or block device").Positional(),
        Field("ro", &Options::ro, "refuse writes"),
        Field("sparse", &Options::sparse, "offer discard: the guest may punch holes in the image"),
        Field("block_size", &Options::block_size,
              "logical block size in bytes, a power of two from 512 to 65536"),
        Field("id", &Options::id, "serial number shown to the guest, at most 20 characters"),
        Field("direct", &Options::direct, "bypass the host's page cache (O_DIRECT)"),
        Field("queues", &Options::queues, "number of request queues, 1 to 16"),
        Field("engine", &Options::engine, "how the image is read and written"));
  }
};

}  // namespace crosvm::devices::block

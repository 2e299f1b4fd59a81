// Structs with one field of every kind, for the tests, fuzzers and benchmarks of this folder.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/describe.h"
#include "base/strong_int.h"
#include "codec/fd_table.h"

namespace crosvm::codec::test_types {

enum class Cache : uint8_t { kNever, kAuto };
constexpr auto DescribeEnum(Cache) {
  return EnumNames<Cache>(
      {{Cache::kNever, "never"}, {Cache::kNever, "none"}, {Cache::kAuto, "auto"}});
}

struct SectorTag;
using Sector = StrongInt<SectorTag, uint64_t>;

struct Disk {
  std::string path;
  bool ro = false;
  uint16_t queues = 1;
  uint32_t block_size = 512;
  int8_t bias = 0;
  std::optional<std::string> id;
  Cache cache = Cache::kAuto;
  std::vector<uint32_t> cpus;
  Sector start{};

  bool operator==(const Disk&) const = default;
  static constexpr auto Describe() {
    return Fields(Field("path", &Disk::path, "the image").Positional(),
                  Field("ro", &Disk::ro, "refuse writes"),
                  Field("queues", &Disk::queues, "number of queues").Range(1, 256),
                  Field("block_size", &Disk::block_size, "logical block").Size(),
                  Field("bias", &Disk::bias), Field("id", &Disk::id).MaxLength(20),
                  Field("cache", &Disk::cache), Field("cpus", &Disk::cpus).MaxLength(4),
                  Field("start", &Disk::start));
  }
};

struct Exit {
  static constexpr std::string_view kName = "Exit";
  bool operator==(const Exit&) const = default;
  static constexpr auto Describe() { return Fields(); }
};

struct Resize {
  static constexpr std::string_view kName = "Resize";
  uint64_t new_size = 0;
  bool operator==(const Resize&) const = default;
  static constexpr auto Describe() {
    return Fields(Field("new_size", &Resize::new_size).Required());
  }
};

struct Err {
  static constexpr std::string_view kName = "Err";
  static constexpr bool kTransparent = true;
  int32_t code = 0;
  bool operator==(const Err&) const = default;
  static constexpr auto Describe() { return Fields(Field("code", &Err::code)); }
};

struct Attach {
  static constexpr std::string_view kName = "Attach";
  FdSlot image;
  std::optional<FdSlot> log;
  std::vector<Disk> disks;
  std::vector<uint8_t> blob;
  std::array<uint8_t, 3> triple{};
  bool operator==(const Attach&) const = default;
  static constexpr auto Describe() {
    return Fields(Field("image", &Attach::image).Required(), Field("log", &Attach::log),
                  Field("disks", &Attach::disks), Field("blob", &Attach::blob),
                  Field("triple", &Attach::triple));
  }
};

using Command = std::variant<Exit, Resize, Err, Attach>;

}  // namespace crosvm::codec::test_types

// Integers with a fixed byte order, for structs that lie in guest memory, on disk or on a wire.
// They have alignment 1, so a wire struct made of them has no padding and may lie anywhere.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace crosvm {

template <typename T, std::endian kOrder>
class Ordered {
  static_assert(std::is_unsigned_v<T>);

 public:
  constexpr Ordered() = default;
  constexpr Ordered(T value) : bytes_(std::bit_cast<Bytes>(Swap(value))) {}  // NOLINT: implicit

  constexpr operator T() const { return Swap(std::bit_cast<T>(bytes_)); }  // NOLINT: implicit
  constexpr T value() const { return *this; }
  friend constexpr bool operator==(const Ordered&, const Ordered&) = default;

 private:
  using Bytes = std::array<uint8_t, sizeof(T)>;
  static constexpr T Swap(T value) {
    if constexpr (kOrder == std::endian::native) {
      return value;
    } else {
      return std::byteswap(value);
    }
  }
  Bytes bytes_{};
};

using Le16 = Ordered<uint16_t, std::endian::little>;
using Le32 = Ordered<uint32_t, std::endian::little>;
using Le64 = Ordered<uint64_t, std::endian::little>;
using Be16 = Ordered<uint16_t, std::endian::big>;
using Be32 = Ordered<uint32_t, std::endian::big>;
using Be64 = Ordered<uint64_t, std::endian::big>;

}  // namespace crosvm

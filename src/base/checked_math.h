// Arithmetic on values of a guest, a peer or a file: overflow is a value, not undefined behaviour.
#pragma once

#include <bit>
#include <concepts>
#include <optional>

namespace crosvm {

template <std::integral T>
[[nodiscard]] constexpr std::optional<T> CheckedAdd(T a, T b) {
  T sum{};
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

template <std::integral T>
[[nodiscard]] constexpr std::optional<T> CheckedSub(T a, T b) {
  T difference{};
  if (__builtin_sub_overflow(a, b, &difference)) return std::nullopt;
  return difference;
}

template <std::integral T>
[[nodiscard]] constexpr std::optional<T> CheckedMul(T a, T b) {
  T product{};
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

// True when [offset, offset + length) lies in [0, size).
template <std::unsigned_integral T>
[[nodiscard]] constexpr bool RangeFits(T offset, T length, T size) {
  return offset <= size && length <= size - offset;
}

// `alignment` is a power of two.
template <std::unsigned_integral T>
[[nodiscard]] constexpr T AlignDown(T value, T alignment) {
  return value & ~(alignment - 1);
}

// Empty when the result does not fit. `alignment` is a power of two.
template <std::unsigned_integral T>
[[nodiscard]] constexpr std::optional<T> AlignUp(T value, T alignment) {
  const std::optional<T> bumped = CheckedAdd(value, static_cast<T>(alignment - 1));
  if (!bumped) return std::nullopt;
  return AlignDown(*bumped, alignment);
}

template <std::unsigned_integral T>
[[nodiscard]] constexpr bool IsAligned(T value, T alignment) {
  return (value & (alignment - 1)) == 0;
}

}  // namespace crosvm

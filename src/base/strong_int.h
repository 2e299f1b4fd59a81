// An integer that cannot be mixed up with another: `struct GsiTag; using Gsi = StrongInt<GsiTag,
// uint32_t>;`. Comparable and hashable; arithmetic is done on value(), where it is visible.
#pragma once

#include <compare>
#include <cstddef>
#include <functional>

namespace crosvm {

template <typename Tag, typename T>
class StrongInt {
 public:
  using ValueType = T;

  constexpr StrongInt() = default;
  constexpr explicit StrongInt(T value) : value_(value) {}

  constexpr T value() const { return value_; }
  friend constexpr auto operator<=>(const StrongInt&, const StrongInt&) = default;

 private:
  T value_{};
};

}  // namespace crosvm

template <typename Tag, typename T>
struct std::hash<crosvm::StrongInt<Tag, T>> {
  size_t operator()(crosvm::StrongInt<Tag, T> value) const noexcept {
    return std::hash<T>()(value.value());
  }
};

// A guest-physical address.
#pragma once

#include <cstdint>
#include <optional>

#include "base/checked_math.h"
#include "base/strong_int.h"

namespace crosvm::memory {

struct GuestAddrTag;
using GuestAddr = StrongInt<GuestAddrTag, uint64_t>;

// Empty when the sum does not fit.
[[nodiscard]] constexpr std::optional<GuestAddr> Add(GuestAddr base, uint64_t offset) {
  const std::optional<uint64_t> sum = CheckedAdd(base.value(), offset);
  if (!sum) return std::nullopt;
  return GuestAddr(*sum);
}

}  // namespace crosvm::memory

// Results of the data plane of a shared directory: a value, or the errno that the guest is told. No
// allocation, no text. TRY works with them as with Result<T>.
#pragma once

#include <cerrno>
#include <expected>

namespace crosvm::shared_dir {

// A positive errno value of this machine (Linux guests have the same numbers).
struct Errno {
  int value = 0;
  bool operator==(const Errno&) const = default;
};

template <typename T>
using OrErrno = std::expected<T, Errno>;
using OkOrErrno = OrErrno<void>;

[[nodiscard]] inline std::unexpected<Errno> Refuse(int value) {
  return std::unexpected(Errno{value});
}
[[nodiscard]] inline std::unexpected<Errno> RefuseLast() {
  return std::unexpected(Errno{errno});
}

}  // namespace crosvm::shared_dir

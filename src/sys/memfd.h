// memfd_create(2), always sealed against shrinking, so that a peer that holds it cannot make us
// fault (SIGBUS).
#pragma once

#include <cstdint>
#include <string>

#include "sys/fd.h"

namespace crosvm::sys {

enum class MemfdPages : uint8_t { kNormal, kHuge };

// `size` bytes, zero-filled, sealed with F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, and with
// F_SEAL_EXEC where the kernel has it: no process can execute it as a program. `name` is what /proc
// shows.
Result<UniqueFd> CreateSealedMemfd(const std::string& name, uint64_t size,
                                   MemfdPages pages = MemfdPages::kNormal);

// True when `fd` is a memfd of at least `size` bytes that nobody can shrink any more.
bool IsShrinkSealed(BorrowedFd fd, uint64_t size);

}  // namespace crosvm::sys

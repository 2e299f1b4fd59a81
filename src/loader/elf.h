// An uncompressed kernel: ELF64 vmlinux, with the PVH entry from its Xen note when there is one.
#pragma once

#include "loader/kernel.h"

namespace crosvm::loader {

// Puts each PT_LOAD at its physical address and zeroes its rest. An image linked below 1 MiB is
// moved up by `lowest` as a whole. Segments must not overlap and the entries must lie in one. At
// most 64 segments.
Result<LoadedKernel> LoadElf(sys::BorrowedFd file, const memory::GuestMemory& memory,
                             memory::GuestAddr lowest);

}  // namespace crosvm::loader

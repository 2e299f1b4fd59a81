// Linux' bzImage by the 64-bit boot protocol (kernel: Documentation/arch/x86/boot.rst).
#pragma once

#include "loader/kernel.h"

namespace crosvm::loader {

// The header of a bzImage, checked against its file.
struct BzImage {
  setup_header header{};
  // The protected-mode part in the file.
  uint64_t code_offset = 0;
  uint64_t code_size = 0;
};

// Protocol 2.12 or later with a 64-bit entry; older kernels (before 3.8) and 32-bit ones are
// kUnsupported.
Result<BzImage> ParseBzImage(sys::BorrowedFd file);

// Puts the image at its preferred address, or, when that is below `lowest` and the kernel is
// relocatable, at the first suitable one from there.
Result<LoadedKernel> LoadBzImage(sys::BorrowedFd file, const memory::GuestMemory& memory,
                                 memory::GuestAddr lowest);

}  // namespace crosvm::loader

// A kernel image of either format, loaded. Images are untrusted files: every number in them is
// checked before use.
#pragma once

#include <asm/bootparam.h>

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "loader/file_range.h"
#include "memory/guest_memory.h"
#include "sys/fd.h"

namespace crosvm::loader {

struct LoadedKernel {
  // The 64-bit entry: long mode, identity-mapped, %rsi = zero page.
  memory::GuestAddr entry;
  // The PVH entry (32-bit protected mode, %ebx = start info), when the image has one.
  std::optional<memory::GuestAddr> pvh_entry;
  // What the kernel occupies while it starts (decompression and bss included); keep everything else
  // out.
  GuestRange range;
  // bzImage only: the template of the zero page. Its fields beyond what the image has are zero.
  std::optional<setup_header> header;
};

// Loads an ELF vmlinux or, when the file is none, a bzImage, at or above `lowest`. Errors name the
// part of the file.
Result<LoadedKernel> LoadKernel(sys::BorrowedFd file, const memory::GuestMemory& memory,
                                memory::GuestAddr lowest);

}  // namespace crosvm::loader

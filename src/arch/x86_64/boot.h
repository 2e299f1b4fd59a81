// Brings a loaded kernel to the point where the boot processor can enter it: command line, initrd,
// zero page or PVH start info, page tables. Used by vm/ on the main thread before the guest runs.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "arch/x86_64/firmware.h"
#include "arch/x86_64/memory_plan.h"
#include "arch/x86_64/vcpu_state.h"
#include "base/result.h"
#include "loader/kernel.h"
#include "memory/guest_memory.h"
#include "sys/fd.h"

namespace crosvm::x86_64 {

struct BootConfig {
  std::string_view command_line;         // without NUL; see kCommandLineMax
  sys::BorrowedFd initrd;                // may be invalid: none
  std::span<const uint8_t> device_tree;  // --android-fstab's, as setup data; may be empty
  FirmwareTables tables;                 // WriteTables()
  // PVH when the kernel offers it and has no bzImage header, unless this says otherwise.
  std::optional<BootProtocol> protocol;
};

// `kernel` was loaded at or above kKernelLowest. Errors: kInvalidArgument in the user's terms.
Result<InitialState> LoadGuest(const BootConfig& config, const MemoryLayout& layout,
                               const memory::GuestMemory& memory,
                               const loader::LoadedKernel& kernel);

// --bios: the image fills the firmware region of the layout.
Status LoadFirmware(sys::BorrowedFd image, const MemoryLayout& layout,
                    const memory::GuestMemory& memory);

}  // namespace crosvm::x86_64

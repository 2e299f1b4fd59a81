// The initial ramdisk: as high in low memory as the kernel allows.
#pragma once

#include "loader/file_range.h"

namespace crosvm::loader {

// What a kernel accepts when its header has no initrd_addr_max.
inline constexpr uint64_t kDefaultInitrdMax = 0x37ff'ffff;

// The highest page-aligned address at which `size` bytes end at or below `last` (the last usable
// byte), lie in the RAM region that holds `lowest`, and do not begin below `lowest`. The bytes are
// page-aligned at the start only.
Result<memory::GuestAddr> PlaceInitrd(const memory::GuestMemory& memory, uint64_t size,
                                      memory::GuestAddr lowest, uint64_t last);

// Places and loads the whole file. `lowest` is the first free address behind the kernel; `addr_max`
// is the header's initrd_addr_max, 0 for the default.
Result<GuestRange> LoadInitrd(sys::BorrowedFd file, const memory::GuestMemory& memory,
                              memory::GuestAddr lowest, uint64_t addr_max);

}  // namespace crosvm::loader

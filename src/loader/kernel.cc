#include "loader/kernel.h"

#include <elf.h>

#include <array>
#include <cstring>

#include "loader/bzimage.h"
#include "loader/elf.h"
#include "sys/file.h"

namespace crosvm::loader {

Result<LoadedKernel> LoadKernel(sys::BorrowedFd file, const memory::GuestMemory& memory,
                                memory::GuestAddr lowest) {
  std::array<uint8_t, SELFMAG> magic{};
  const size_t length = TRY(sys::PreadAll(file, magic, 0));
  if (length == SELFMAG && std::memcmp(magic.data(), ELFMAG, SELFMAG) == 0) {
    return LoadElf(file, memory, lowest);
  }
  return LoadBzImage(file, memory, lowest);
}

}  // namespace crosvm::loader

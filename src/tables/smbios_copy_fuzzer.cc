#include <algorithm>

#include "tables/smbios.h"

// The first 31 bytes are the entry point, the rest the structures.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> all(data, size);
  const std::span<const uint8_t> entry = all.first(std::min<size_t>(size, 31));
  const auto image =
      crosvm::tables::RelocateSmbios(entry, all.subspan(entry.size()), 0xf0000, 0x8000);
  if (image &&
      crosvm::tables::ByteSum(std::span(*image).first(image->at(3) == '3' ? 24 : 31)) != 0) {
    __builtin_trap();
  }
  return 0;
}

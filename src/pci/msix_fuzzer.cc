// Table and pending-bit accesses of every shape: what is read back is what the defined writes have
// left.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "pci/msix.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using crosvm::pci::Msix;
  if (size == 0) return 0;
  const auto vectors = static_cast<uint16_t>(data[0] + 1);
  Msix msix(vectors);
  for (std::span<const uint8_t> input(data + 1, size - 1); input.size() >= 12;
       input = input.subspan(12)) {
    const uint64_t offset = input[0] | (uint64_t{input[1]} << 8) | (uint64_t{input[2]} << 56);
    const size_t width = 1 + input[3] % 8;
    std::array<uint8_t, 8> bytes;
    std::copy_n(input.begin() + 4, 8, bytes.begin());
    const auto vector = msix.WriteTable(offset, std::span(bytes).first(width));
    if (vector) {
      CHECK(*vector < vectors);
      CHECK(msix.message(*vector).address % 4 == 0);
      msix.SetPending(*vector, true);
      std::array<uint8_t, 1> pending{};
      msix.ReadPending(*vector / 8, pending);
      CHECK((pending[0] >> (*vector % 8) & 1) == 1);
    }
    msix.ReadTable(offset, std::span(bytes).first(width));
    msix.ReadPending(offset, std::span(bytes).first(width));
  }
  return 0;
}

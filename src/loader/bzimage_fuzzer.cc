// The bytes are a kernel image.
#include "loader/bzimage.h"
#include "loader/test_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace crosvm;
  static const memory::GuestMemory memory = loader::MakeMemory(uint64_t{32} << 20);
  const sys::UniqueFd file = loader::MakeFile({data, size});
  const Result<loader::LoadedKernel> kernel =
      loader::LoadBzImage(file, memory, memory::GuestAddr(0x200000));
  // What is accepted lies in memory, entry and all.
  if (kernel) {
    CHECK(memory.Slice(kernel->range.start, kernel->range.size).has_value());
    CHECK(memory.Slice(kernel->entry, 1).has_value());
  }
  return 0;
}

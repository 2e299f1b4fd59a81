// For the tests and fuzzers of this folder: a file with given bytes, and small guest memory.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/check.h"
#include "memory/guest_memory.h"
#include "sys/fd.h"

namespace crosvm::loader {

inline sys::UniqueFd MakeFile(std::span<const uint8_t> bytes) {
  sys::UniqueFd file(memfd_create("loader_test", MFD_CLOEXEC));
  CHECK(file.valid());
  CHECK(pwrite(file.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  return file;
}

// RAM from 0 to `size`, page-aligned.
inline memory::GuestMemory MakeMemory(uint64_t size) {
  const memory::RegionLayout layout[] = {{.start = memory::GuestAddr(0), .size = size}};
  Result<memory::GuestMemory> memory = memory::GuestMemory::Create(layout);
  CHECK(memory.has_value());
  return *std::move(memory);
}

template <typename T>
void PutAt(std::vector<uint8_t>& bytes, size_t offset, const T& value) {
  if (bytes.size() < offset + sizeof(T)) bytes.resize(offset + sizeof(T));
  std::memcpy(bytes.data() + offset, &value, sizeof(T));
}

}  // namespace crosvm::loader

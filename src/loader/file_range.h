// Parts of an untrusted file straight into guest memory. Used by every loader; VMM, main thread,
// before the guest runs.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "memory/guest_memory.h"
#include "sys/fd.h"

namespace crosvm::loader {

// A range of guest-physical memory that something occupies.
struct GuestRange {
  memory::GuestAddr start;
  uint64_t size = 0;

  // First address behind it. Ranges made here never wrap.
  constexpr uint64_t end() const { return start.value() + size; }
  constexpr bool operator==(const GuestRange&) const = default;
};

// Fills `to` from `offset` of the file (preadv into the guest's pages, no copy of ours). kIo when
// the file ends first.
Status ReadIntoGuest(sys::BorrowedFd file, uint64_t offset, const memory::GuestSlice& to);

// As above for [at, at + length) of guest memory. `what` names the part in errors: "the initrd".
// kInvalidArgument when the range is not memory.
Status LoadRange(sys::BorrowedFd file, uint64_t offset, uint64_t length,
                 const memory::GuestMemory& memory, memory::GuestAddr at, std::string_view what);

}  // namespace crosvm::loader

// A bounds-checked range of guest memory. The only thing that may be done with it is to copy, once,
// between it and memory of ours, or to hand it to the kernel as an iovec: no pointer or span into
// guest memory leaves memory/.
//
// The guest (and every device process) can change the bytes at any time. What was copied is the
// caller's own; copying the same place twice and expecting the same bytes is a bug (docs/adr: guest
// memory).
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>

#include "memory/guest_cell.h"

namespace crosvm::memory {

// Valid for as long as the GuestMemory it came from (or a copy of it) lives.
class GuestSlice {
 public:
  GuestSlice() = default;

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  // The part from `offset`; both are clamped to the slice.
  GuestSlice Sub(size_t offset, size_t length = SIZE_MAX) const;

  // Guest to ours. Copies min(size(), out.size()) bytes, returns that number; ends in a compiler
  // barrier so that the compiler cannot read the guest's bytes again later.
  size_t CopyTo(std::span<uint8_t> out) const;
  // Ours to guest; min(size(), in.size()) bytes.
  size_t CopyFrom(std::span<const uint8_t> in) const;
  void Zero() const;

  // Copies one T out, once; empty when it does not fit at `offset`.
  template <typename T>
  std::optional<T> Read(size_t offset) const {
    static_assert(std::is_trivially_copyable_v<T>);
    if (offset > size_ || sizeof(T) > size_ - offset) return std::nullopt;
    T value{};
    // SAFETY: T is trivially copyable, so its bytes may be written.
    Sub(offset, sizeof(T)).CopyTo({reinterpret_cast<uint8_t*>(&value), sizeof(T)});
    return value;
  }
  // A control word in the slice; empty when it does not fit or is misaligned.
  template <typename T>
  std::optional<GuestCell<T>> Cell(size_t offset) const {
    if (offset > size_ || sizeof(T) > size_ - offset) return std::nullopt;
    // SAFETY: the address as a number, for the alignment check; then in bounds and naturally
    // aligned.
    if (reinterpret_cast<uintptr_t>(data_ + offset) % sizeof(T) != 0) return std::nullopt;
    return GuestCell<T>(reinterpret_cast<T*>(data_ + offset));
  }

  // For readv(2), writev(2), io_uring and the like. The callee is the kernel, which copies once.
  iovec ToIovec() const { return {data_, size_}; }

 private:
  friend class GuestMemory;
  GuestSlice(uint8_t* data, size_t size) : data_(data), size_(size) {}
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace crosvm::memory

#include "memory/guest_slice.h"

#include <algorithm>

#include "memory/guest_copy.h"

namespace crosvm::memory {

GuestSlice GuestSlice::Sub(size_t offset, size_t length) const {
  if (offset >= size_) return {};
  return {data_ + offset, std::min(length, size_ - offset)};
}

size_t GuestSlice::CopyTo(std::span<uint8_t> out) const {
  const size_t bytes = std::min(size_, out.size());
  CopyFromGuest(out.data(), data_, bytes);
  return bytes;
}

size_t GuestSlice::CopyFrom(std::span<const uint8_t> in) const {
  const size_t bytes = std::min(size_, in.size());
  CopyToGuest(data_, in.data(), bytes);
  return bytes;
}

void GuestSlice::Zero() const {
  ZeroGuest(data_, size_);
}

}  // namespace crosvm::memory

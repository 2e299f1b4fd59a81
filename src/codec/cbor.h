// Described structs as CBOR (RFC 8949): messages between our processes, snapshots. Rules of
// reading: archive.h.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "codec/archive.h"
#include "codec/value.h"

namespace crosvm::codec {

template <typename T>
std::vector<uint8_t> ToCbor(const T& object) {
  return WriteCbor(Encode(object));
}

// `bytes` is untrusted. `fd_count` is the number of descriptors that its FdSlots may name.
template <typename T>
Result<T> FromCbor(std::span<const uint8_t> bytes, size_t fd_count = 0) {
  const Value value = TRY(ParseCbor(bytes));
  return Decode<T>(value, fd_count);
}

}  // namespace crosvm::codec

// Described structs as JSON: the control socket and the configuration file. Rules of reading:
// archive.h.
#pragma once

#include <string>
#include <string_view>

#include "codec/archive.h"
#include "codec/value.h"

namespace crosvm::codec {

// `indent` < 0 writes one line.
template <typename T>
std::string ToJson(const T& object, int indent = -1) {
  return WriteJson(Encode(object), indent);
}

// `text` is untrusted. `fd_count` is the number of descriptors that its FdSlots may name.
template <typename T>
Result<T> FromJson(std::string_view text, size_t fd_count = 0) {
  const Value value = TRY(ParseJson(text));
  return Decode<T>(value, fd_count);
}

}  // namespace crosvm::codec

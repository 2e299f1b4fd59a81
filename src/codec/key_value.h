// Described structs as `value,key=value,…`: the options of the command line.
//
//   ParseKeyValue<BlockOptions>("root.img,ro,block_size=4K")
//
// Items are split at the separator, each at its first `=` (so a value may contain `=`). Positional
// fields may be given without key, first and in order. A bool is `true`, `false`, `on`, `off`, or
// the bare key. Integers are decimal or 0x…, with a suffix K, M, G, T where the field is a size. A
// key of a list may be repeated, others not. `-` and `_` in keys are the same. Unknown keys are
// refused and the error lists the known ones.
#pragma once

#include <string>
#include <string_view>

#include "codec/archive.h"

namespace crosvm::codec {

struct KeyValueFormat {
  char separator = ',';
};

// An integer of the command line: decimal or 0x…, `size` allows a suffix K, M, G or T.
Result<uint64_t> ParseNumber(std::string_view text, bool size = false);
// true, false, on or off.
Result<bool> ParseBool(std::string_view text);

namespace internal {
Status ParseKeyValueInto(std::string_view text, KeyValueFormat format, const TypeOps& type,
                         void* object);
std::string FormatKeyValue(KeyValueFormat format, const TypeOps& type, const void* object,
                           const void* defaults);
std::string HelpOf(KeyValueFormat format, const TypeOps& type, const void* defaults);
std::string GrammarOf(KeyValueFormat format, const TypeOps& type);
}  // namespace internal

// What `text` does not name stays as in `defaults`.
template <Described T>
Result<T> ParseKeyValue(std::string_view text, KeyValueFormat format = {}, T defaults = {}) {
  Result<T> result(std::move(defaults));
  Status status = internal::ParseKeyValueInto(text, format, OpsOf<T>::kOps, &*result);
  if (!status) result = std::unexpected(std::move(status).error());
  return result;
}

// What ParseKeyValue reads back: positional fields and those that differ from their default.
template <Described T>
std::string FormatKeyValue(const T& object, KeyValueFormat format = {}) {
  const T defaults{};
  return internal::FormatKeyValue(format, OpsOf<T>::kOps, &object, &defaults);
}

// One line a field, in columns: `  queues=N   number of queues (default 1)`.
template <Described T>
std::string HelpOf(KeyValueFormat format = {}) {
  const T defaults{};
  return internal::HelpOf(format, OpsOf<T>::kOps, &defaults);
}

// In one line: `PATH[,ro][,queues=N]`.
template <Described T>
std::string GrammarOf(KeyValueFormat format = {}) {
  return internal::GrammarOf(format, OpsOf<T>::kOps);
}

}  // namespace crosvm::codec

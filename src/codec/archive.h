// Between described structs (base/describe.h) and Value. The templates here only make constant
// tables of a type's fields; all work is done by plain functions in archive.cc that walk those
// tables.
//
// Rules of reading, the same for every archive: an unknown field is refused and the error lists the
// known ones; types, ranges and lengths are checked before a value is taken; a missing field keeps
// its default unless it is required.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "base/describe.h"
#include "base/result.h"
#include "base/strong_int.h"
#include "codec/fd_table.h"
#include "codec/value.h"

namespace crosvm::codec {

// What one decoding run knows beside the value.
struct DecodeContext {
  size_t fd_count = 0;  // descriptors that came with the message
  std::vector<bool> slots_seen = {};
};

enum class Kind : uint8_t { kBool, kInteger, kText, kList, kOptional, kStruct, kVariant, kFdSlot };

struct Limits {
  int64_t min = INT64_MIN;
  uint64_t max = UINT64_MAX;
  size_t max_length = SIZE_MAX;
};

struct FieldEntry;

// How to archive one type; constant, one for each type.
struct TypeOps {
  Kind kind;
  Value (*encode)(const void* object);
  Status (*decode)(const Value& value, const Limits& limits, DecodeContext& context, void* object);
  const TypeOps* item = nullptr;                      // of a list or an optional
  std::string (*choices)() = nullptr;                 // "a|b|c" of an enum
  std::span<const FieldEntry> (*fields)() = nullptr;  // of a struct
};

struct FieldEntry {
  std::string_view name;
  std::string_view help;
  bool positional;
  bool required;
  bool size;
  Limits limits;
  const TypeOps* ops;
  void* (*get)(void* object);
};

struct Alternative {
  std::string_view name;
  const TypeOps* ops;
  void* (*emplace)(void* variant);
};

template <typename T>
struct OpsOf;

namespace internal {

// An integer of either sign, checked against the limits; `bits` is its two's complement.
Result<uint64_t> DecodeInteger(const Value& value, const Limits& limits, const Limits& type);
Result<const std::string*> DecodeText(const Value& value, const Limits& limits);
Result<const Value::Array*> DecodeList(const Value& value, const Limits& limits);
Result<Value::Bytes> DecodeBytes(const Value& value, const Limits& limits);
Result<bool> DecodeBool(const Value& value);
Result<uint32_t> DecodeSlot(const Value& value, DecodeContext& context);
std::unexpected<Error> UnknownChoice(std::string_view text, std::string_view choices);

Value EncodeStruct(std::span<const FieldEntry> fields, bool transparent, const void* object);
Status DecodeStruct(std::span<const FieldEntry> fields, bool transparent, const Value& value,
                    DecodeContext& context, void* object);
Value EncodeVariant(const Alternative& alternative, const void* object);
Status DecodeVariant(std::span<const Alternative> alternatives, const Value& value,
                     DecodeContext& context, void* variant);

template <typename T>
struct Unwrap;
template <typename Class, typename Member>
struct Unwrap<FieldInfo<Class, Member>> {
  using MemberType = Member;
};

template <typename T>
inline constexpr auto kFieldsOf = T::Describe();

template <typename T, size_t kIndex>
constexpr FieldEntry EntryOf() {
  constexpr auto info = FieldAt<kIndex>(kFieldsOf<T>);
  using Member = typename Unwrap<std::remove_const_t<decltype(info)>>::MemberType;
  return {info.name,
          info.help,
          info.positional,
          info.required,
          info.size,
          {info.min, info.max, info.max_length},
          &OpsOf<Member>::kOps,
          [](void* object) -> void* {
            return &(static_cast<T*>(object)->*(FieldAt<kIndex>(kFieldsOf<T>).member));
          }};
}

template <typename T>
constexpr size_t kFieldCount = decltype(T::Describe())::kCount;

template <typename T>
std::span<const FieldEntry> FieldsOf() {
  static constexpr auto kTable = []<size_t... kIndexes>(std::index_sequence<kIndexes...>) {
    return std::array<FieldEntry, sizeof...(kIndexes)>{EntryOf<T, kIndexes>()...};
  }(std::make_index_sequence<kFieldCount<T>>());
  return kTable;
}

template <typename T>
constexpr bool IsTransparent() {
  if constexpr (requires { T::kTransparent; }) {
    static_assert(kFieldCount<T> == 1, "a transparent struct has one field");
    return T::kTransparent;
  } else {
    return false;
  }
}

}  // namespace internal

template <>
struct OpsOf<bool> {
  static Value Encode(const void* object) { return Value(*static_cast<const bool*>(object)); }
  static Status Decode(const Value& value, const Limits&, DecodeContext&, void* object) {
    const bool result = TRY(internal::DecodeBool(value));
    *static_cast<bool*>(object) = result;
    return {};
  }
  static constexpr TypeOps kOps = {Kind::kBool, &Encode, &Decode};
};

template <typename T>
  requires(std::is_integral_v<T> && !std::is_same_v<T, bool>)
struct OpsOf<T> {
  using Wide = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
  static Value Encode(const void* object) {
    return Value(static_cast<Wide>(*static_cast<const T*>(object)));
  }
  static Status Decode(const Value& value, const Limits& limits, DecodeContext&, void* object) {
    constexpr Limits kType = {static_cast<int64_t>(std::numeric_limits<T>::min()),
                              static_cast<uint64_t>(std::numeric_limits<T>::max())};
    const uint64_t bits = TRY(internal::DecodeInteger(value, limits, kType));
    *static_cast<T*>(object) = static_cast<T>(bits);
    return {};
  }
  static constexpr TypeOps kOps = {Kind::kInteger, &Encode, &Decode};
};

template <typename Tag, typename T>
struct OpsOf<StrongInt<Tag, T>> {
  static Value Encode(const void* object) {
    const T value = static_cast<const StrongInt<Tag, T>*>(object)->value();
    return OpsOf<T>::Encode(&value);
  }
  static Status Decode(const Value& value, const Limits& limits, DecodeContext& context,
                       void* object) {
    T plain{};
    TRY(OpsOf<T>::Decode(value, limits, context, &plain));
    *static_cast<StrongInt<Tag, T>*>(object) = StrongInt<Tag, T>(plain);
    return {};
  }
  static constexpr TypeOps kOps = {Kind::kInteger, &Encode, &Decode};
};

template <>
struct OpsOf<std::string> {
  static Value Encode(const void* object) {
    return Value(*static_cast<const std::string*>(object));
  }
  static Status Decode(const Value& value, const Limits& limits, DecodeContext&, void* object) {
    const std::string* text = TRY(internal::DecodeText(value, limits));
    *static_cast<std::string*>(object) = *text;
    return {};
  }
  static constexpr TypeOps kOps = {Kind::kText, &Encode, &Decode};
};

template <DescribedEnum E>
struct OpsOf<E> {
  static std::string Choices() {
    std::string all;
    for (const auto& [candidate, name] : DescribeEnum(E{})) {
      if (NameOf(candidate) != name) continue;  // a second name of the same value
      if (!all.empty()) all += '|';
      all += name;
    }
    return all;
  }
  static Value Encode(const void* object) {
    return Value(std::string(NameOf(*static_cast<const E*>(object))));
  }
  static Status Decode(const Value& value, const Limits& limits, DecodeContext&, void* object) {
    const std::string* text = TRY(internal::DecodeText(value, limits));
    for (const auto& [candidate, name] : DescribeEnum(E{})) {
      if (name == *text) {
        *static_cast<E*>(object) = candidate;
        return {};
      }
    }
    return internal::UnknownChoice(*text, Choices());
  }
  static constexpr TypeOps kOps = {Kind::kText, &Encode, &Decode, nullptr, &Choices};
};

template <TextForm T>
struct OpsOf<T> {
  static Value Encode(const void* object) {
    return Value(static_cast<const T*>(object)->ToString());
  }
  static Status Decode(const Value& value, const Limits& limits, DecodeContext&, void* object) {
    const std::string* text = TRY(internal::DecodeText(value, limits));
    T parsed = TRY(T::Parse(*text));
    *static_cast<T*>(object) = std::move(parsed);
    return {};
  }
  static constexpr TypeOps kOps = {Kind::kText, &Encode, &Decode};
};

template <>
struct OpsOf<FdSlot> {
  static Value Encode(const void* object) {
    return Value(static_cast<uint64_t>(static_cast<const FdSlot*>(object)->index));
  }
  static Status Decode(const Value& value, const Limits&, DecodeContext& context, void* object) {
    const uint32_t index = TRY(internal::DecodeSlot(value, context));
    static_cast<FdSlot*>(object)->index = index;
    return {};
  }
  static constexpr TypeOps kOps = {Kind::kFdSlot, &Encode, &Decode};
};

template <>
struct OpsOf<std::vector<uint8_t>> {
  static Value Encode(const void* object) {
    return Value(*static_cast<const std::vector<uint8_t>*>(object));
  }
  static Status Decode(const Value& value, const Limits& limits, DecodeContext&, void* object) {
    std::vector<uint8_t> bytes = TRY(internal::DecodeBytes(value, limits));
    *static_cast<std::vector<uint8_t>*>(object) = std::move(bytes);
    return {};
  }
  static constexpr TypeOps kOps = {Kind::kList, &Encode, &Decode, &OpsOf<uint8_t>::kOps};
};

template <typename T>
struct OpsOf<std::vector<T>> {
  static_assert(!std::is_same_v<T, bool>, "std::vector<bool> has no elements to point at");
  static Value Encode(const void* object) {
    Value::Array items;
    for (const T& item : *static_cast<const std::vector<T>*>(object)) {
      items.push_back(OpsOf<T>::Encode(&item));
    }
    return Value(std::move(items));
  }
  static Status Decode(const Value& value, const Limits& limits, DecodeContext& context,
                       void* object) {
    const Value::Array* items = TRY(internal::DecodeList(value, limits));
    std::vector<T> result(items->size());
    // The limits of a list of integers or texts are those of its items; its length was checked
    // above.
    const Limits item_limits = {limits.min, limits.max};
    for (size_t i = 0; i < items->size(); ++i) {
      TRY_CONTEXT(OpsOf<T>::Decode((*items)[i], item_limits, context, &result[i]), "item {}", i);
    }
    *static_cast<std::vector<T>*>(object) = std::move(result);
    return {};
  }
  static constexpr TypeOps kOps = {Kind::kList, &Encode, &Decode, &OpsOf<T>::kOps};
};

template <typename T, size_t kCount>
struct OpsOf<std::array<T, kCount>> {
  static Value Encode(const void* object) {
    Value::Array items;
    for (const T& item : *static_cast<const std::array<T, kCount>*>(object)) {
      items.push_back(OpsOf<T>::Encode(&item));
    }
    return Value(std::move(items));
  }
  static Status Decode(const Value& value, const Limits& limits, DecodeContext& context,
                       void* object) {
    const Value::Array* items = TRY(internal::DecodeList(value, {}));
    if (items->size() != kCount) {
      return Fail(ErrorKind::kInvalidArgument, "a list of {} items is needed, not of {}", kCount,
                  items->size());
    }
    auto& result = *static_cast<std::array<T, kCount>*>(object);
    const Limits item_limits = {limits.min, limits.max};
    for (size_t i = 0; i < kCount; ++i) {
      TRY_CONTEXT(OpsOf<T>::Decode((*items)[i], item_limits, context, &result[i]), "item {}", i);
    }
    return {};
  }
  static constexpr TypeOps kOps = {Kind::kList, &Encode, &Decode, &OpsOf<T>::kOps};
};

template <typename T>
struct OpsOf<std::optional<T>> {
  static Value Encode(const void* object) {
    const auto& optional = *static_cast<const std::optional<T>*>(object);
    return optional ? OpsOf<T>::Encode(&*optional) : Value();
  }
  static Status Decode(const Value& value, const Limits& limits, DecodeContext& context,
                       void* object) {
    auto& optional = *static_cast<std::optional<T>*>(object);
    if (value.is_null()) {
      optional.reset();
      return {};
    }
    return OpsOf<T>::Decode(value, limits, context, &optional.emplace());
  }
  static constexpr TypeOps kOps = {Kind::kOptional, &Encode, &Decode, &OpsOf<T>::kOps};
};

template <Described T>
struct OpsOf<T> {
  static Value Encode(const void* object) {
    return internal::EncodeStruct(internal::FieldsOf<T>(), internal::IsTransparent<T>(), object);
  }
  static Status Decode(const Value& value, const Limits&, DecodeContext& context, void* object) {
    return internal::DecodeStruct(internal::FieldsOf<T>(), internal::IsTransparent<T>(), value,
                                  context, object);
  }
  static constexpr TypeOps kOps = {Kind::kStruct, &Encode, &Decode,
                                   nullptr,       nullptr, &internal::FieldsOf<T>};
};

template <typename... Ts>
struct OpsOf<std::variant<Ts...>> {
  using Variant = std::variant<Ts...>;
  static std::span<const Alternative> Alternatives() {
    static constexpr Alternative kTable[] = {
        {Ts::kName, &OpsOf<Ts>::kOps, [](void* variant) -> void* {
           return &static_cast<Variant*>(variant)->template emplace<Ts>();
         }}...};
    return kTable;
  }
  static Value Encode(const void* object) {
    const auto& variant = *static_cast<const Variant*>(object);
    return std::visit(
        [&](const auto& value) {
          return internal::EncodeVariant(Alternatives()[variant.index()], &value);
        },
        variant);
  }
  static Status Decode(const Value& value, const Limits&, DecodeContext& context, void* object) {
    return internal::DecodeVariant(Alternatives(), value, context, object);
  }
  static constexpr TypeOps kOps = {Kind::kVariant, &Encode, &Decode};
};

template <typename T>
Value Encode(const T& object) {
  return OpsOf<T>::Encode(&object);
}

// Reads `value` over what `object` holds; missing fields keep what they had. On failure `object`
// may be half changed.
template <typename T>
Status DecodeInto(const Value& value, T& object, size_t fd_count = 0) {
  DecodeContext context{.fd_count = fd_count};
  return OpsOf<T>::Decode(value, Limits(), context, &object);
}

template <typename T>
Result<T> Decode(const Value& value, size_t fd_count = 0) {
  Result<T> result(std::in_place);
  Status status = DecodeInto(value, *result, fd_count);
  if (!status) result = std::unexpected(std::move(status).error());
  return result;
}

}  // namespace crosvm::codec

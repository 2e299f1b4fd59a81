// One list of fields per plain struct, from which every archive of codec/ is derived: JSON, CBOR,
// `key=value,…` options and their help.
//
//   struct Options {
//     std::string path;
//     bool ro = false;
//     static constexpr auto Describe() {
//       return Fields(Field("path", &Options::path, "the image file").Positional(),
//                     Field("ro", &Options::ro, "refuse writes"));
//     }
//   };
//
//   enum class Cache : uint8_t { kNever, kAuto };
//   constexpr auto DescribeEnum(Cache) {
//     return EnumNames<Cache>({{Cache::kNever, "never"}, {Cache::kAuto, "auto"}});
//   }
//
// Field types: bool, integers, StrongInt, std::string, enums, nested described structs,
// std::optional, std::vector, std::array, std::variant of described structs each with a `static
// constexpr std::string_view kName` (externally tagged), types with a text form (TextForm below),
// and codec's FdSlot for a descriptor that travels beside a message.
//
// An enum may list several names for one value: the first is written, all are read. A described
// struct of one field with `static constexpr bool kTransparent = true` is archived as that field
// alone ({"Err":22}).
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/result.h"

namespace crosvm {

template <typename Class, typename Member>
struct FieldInfo {
  std::string_view name;
  Member Class::* member;
  std::string_view help;
  // May be given without its key as the first item of a key=value list.
  bool positional = false;
  // Must be given by the user (key=value, config file).
  bool required = false;
  // An integer that the user may write with a suffix K, M, G or T (powers of 1024).
  bool size = false;
  // Bounds of an integer, both included; archives refuse what lies outside.
  int64_t min = INT64_MIN;
  uint64_t max = UINT64_MAX;
  // Bytes of a string or items of a list.
  size_t max_length = SIZE_MAX;

  constexpr FieldInfo Positional() const {
    FieldInfo copy = *this;
    copy.positional = true;
    copy.required = true;
    return copy;
  }
  constexpr FieldInfo Required() const {
    FieldInfo copy = *this;
    copy.required = true;
    return copy;
  }
  constexpr FieldInfo Size() const {
    FieldInfo copy = *this;
    copy.size = true;
    return copy;
  }
  constexpr FieldInfo Range(int64_t least, uint64_t most) const {
    FieldInfo copy = *this;
    copy.min = least;
    copy.max = most;
    return copy;
  }
  constexpr FieldInfo MaxLength(size_t most) const {
    FieldInfo copy = *this;
    copy.max_length = most;
    return copy;
  }
};

template <typename Class, typename Member>
constexpr FieldInfo<Class, Member> Field(std::string_view name, Member Class::* member,
                                         std::string_view help = {}) {
  return {name, member, help};
}

// The fields of a struct. Not a std::tuple: its constructors' constraints made a struct of fifty
// fields cost every file that includes it a quarter of a second.
template <size_t kIndex, typename Info>
struct FieldSlot {
  Info info;
};

template <size_t kIndex, typename Info>
constexpr const Info& FieldAt(const FieldSlot<kIndex, Info>& slot) {
  return slot.info;
}

template <typename Indexes, typename... Infos>
struct FieldListOf;

template <size_t... kIndexes, typename... Infos>
struct FieldListOf<std::index_sequence<kIndexes...>, Infos...> : FieldSlot<kIndexes, Infos>... {
  static constexpr size_t kCount = sizeof...(Infos);
};

template <typename... Infos>
using FieldList = FieldListOf<std::index_sequence_for<Infos...>, Infos...>;

template <typename... Infos>
constexpr FieldList<Infos...> Fields(Infos... infos) {
  return {{infos}...};
}

template <typename T>
concept Described = requires { T::Describe(); };

template <typename E>
using EnumName = std::pair<E, std::string_view>;

template <typename E, size_t kCount>
constexpr std::array<EnumName<E>, kCount> EnumNames(const EnumName<E> (&names)[kCount]) {
  return std::to_array(names);
}

template <typename E>
concept DescribedEnum = std::is_enum_v<E> && requires(E e) { DescribeEnum(e); };

// A type that is archived as its text: a MAC address, a CPU set.
template <typename T>
concept TextForm = requires(const T& value, std::string_view text) {
  { T::Parse(text) } -> std::same_as<Result<T>>;
  { value.ToString() } -> std::same_as<std::string>;
};

// Calls visit(FieldInfo) for each field of T, in order.
template <Described T, typename Visitor>
constexpr void ForEachField(Visitor&& visit) {
  [[maybe_unused]] constexpr auto kFields = T::Describe();
  [&]<size_t... kIndexes>(std::index_sequence<kIndexes...>) {
    (visit(FieldAt<kIndexes>(kFields)), ...);
  }(std::make_index_sequence<kFields.kCount>());
}

template <DescribedEnum E>
constexpr std::string_view NameOf(E value) {
  for (const auto& [candidate, name] : DescribeEnum(E{})) {
    if (candidate == value) return name;
  }
  return "?";
}

}  // namespace crosvm

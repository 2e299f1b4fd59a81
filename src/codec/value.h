// A parsed document of any archive: the small tree that stands between text or bytes
// (value_text.cc) and typed structs (archive.h). It exists so that no header of ours includes a
// JSON library.
//
// There are no fractions: nothing we archive has one, and an integer that becomes a double loses
// bits.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace crosvm::codec {

struct Member;

class Value {
 public:
  using Bytes = std::vector<uint8_t>;
  using Array = std::vector<Value>;
  // In the order of the document; no name occurs twice.
  using Object = std::vector<Member>;

  // All defined in value.cc, where Member is complete.
  Value();  // null
  explicit Value(bool value);
  Value(const char*) = delete;  // would become a bool
  // Negative numbers only are kept as int64_t, so that a number has one representation.
  explicit Value(int64_t value);
  explicit Value(uint64_t value);
  explicit Value(std::string value);
  explicit Value(Bytes value);
  explicit Value(Array value);
  explicit Value(Object value);
  Value(const Value&);
  Value(Value&&) noexcept;
  Value& operator=(const Value&);
  Value& operator=(Value&&) noexcept;
  ~Value();

  bool is_null() const { return std::holds_alternative<std::monostate>(data_); }
  // Null when the value is of another type.
  const bool* boolean() const { return std::get_if<bool>(&data_); }
  const int64_t* negative() const { return std::get_if<int64_t>(&data_); }
  const uint64_t* number() const { return std::get_if<uint64_t>(&data_); }
  const std::string* text() const { return std::get_if<std::string>(&data_); }
  const Bytes* bytes() const { return std::get_if<Bytes>(&data_); }
  const Array* array() const { return std::get_if<Array>(&data_); }
  const Object* object() const { return std::get_if<Object>(&data_); }
  Array* array() { return std::get_if<Array>(&data_); }
  Object* object() { return std::get_if<Object>(&data_); }

  // "a number", "a list", …: what an error says was found.
  std::string_view TypeName() const;

  // The member of an object, or null.
  const Value* Find(std::string_view name) const;

  bool operator==(const Value&) const;

 private:
  std::variant<std::monostate, bool, int64_t, uint64_t, std::string, Bytes, Array, Object> data_;
};

struct Member {
  std::string name;
  Value value;

  bool operator==(const Member&) const = default;
};

// Nesting beyond this is refused, whatever the archive.
inline constexpr size_t kMaxDepth = 32;

// The input of all four is untrusted. Refused (kProtocol for CBOR, kInvalidArgument for JSON):
// syntax errors, trailing bytes, fractions, a name twice in one object, nesting deeper than
// kMaxDepth. The memory needed is a small multiple of the input's size; the caller bounds that.
enum class JsonComments : uint8_t { kRefused, kAllowed };
Result<Value> ParseJson(std::string_view text, JsonComments comments = JsonComments::kRefused);
Result<Value> ParseCbor(std::span<const uint8_t> bytes);
// `indent` < 0 writes one line. Bytes become a list of numbers; text that is not UTF-8 gets
// replacement characters.
std::string WriteJson(const Value& value, int indent = -1);
std::vector<uint8_t> WriteCbor(const Value& value);

}  // namespace crosvm::codec

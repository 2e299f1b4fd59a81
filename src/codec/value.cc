#include "codec/value.h"

namespace crosvm::codec {

Value::Value() = default;
Value::Value(bool value) : data_(value) {
}
Value::Value(int64_t value) {
  if (value < 0) {
    data_ = value;
  } else {
    data_ = static_cast<uint64_t>(value);
  }
}
Value::Value(uint64_t value) : data_(value) {
}
Value::Value(std::string value) : data_(std::move(value)) {
}
Value::Value(Bytes value) : data_(std::move(value)) {
}
Value::Value(Array value) : data_(std::move(value)) {
}
Value::Value(Object value) : data_(std::move(value)) {
}
Value::Value(const Value&) = default;
Value::Value(Value&&) noexcept = default;
Value& Value::operator=(const Value&) = default;
Value& Value::operator=(Value&&) noexcept = default;
Value::~Value() = default;

std::string_view Value::TypeName() const {
  static constexpr std::string_view kNames[] = {"null",     "true or false", "a negative number",
                                                "a number", "a text",        "bytes",
                                                "a list",   "an object"};
  return kNames[data_.index()];
}

const Value* Value::Find(std::string_view name) const {
  const Object* members = object();
  if (members == nullptr) return nullptr;
  for (const Member& member : *members) {
    if (member.name == name) return &member.value;
  }
  return nullptr;
}

bool Value::operator==(const Value&) const = default;

}  // namespace crosvm::codec

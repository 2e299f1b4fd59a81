#include "codec/value.h"

namespace crosvm::codec {

Value::Value(Object value) : data_(std::move(value)) {}

std::string_view Value::TypeName() const {
  static constexpr std::string_view kNames[] = {"null", "true or false", "a negative number",
                                                "a number", "a text", "bytes",
                                                "a list", "an object"};
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

#include "codec/archive.h"

#include <algorithm>

namespace crosvm::codec::internal {
namespace {

std::unexpected<Error> WrongType(std::string_view needed, const Value& value) {
  return Fail(ErrorKind::kInvalidArgument, "{} is needed, not {}", needed, value.TypeName());
}

std::string KnownNames(std::span<const FieldEntry> fields) {
  std::string names;
  for (const FieldEntry& field : fields) {
    if (!names.empty()) names += ", ";
    names += field.name;
  }
  return names.empty() ? "none" : names;
}

const FieldEntry* FindField(std::span<const FieldEntry> fields, std::string_view name) {
  for (const FieldEntry& field : fields) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

// SAFETY: FieldEntry::get only computes an address; callers of this overload do not write through
// it.
const void* GetConst(const FieldEntry& field, const void* object) {
  return field.get(const_cast<void*>(object));
}

}  // namespace

Result<uint64_t> DecodeInteger(const Value& value, const Limits& limits, const Limits& type) {
  const int64_t least = std::max(limits.min, type.min);
  const uint64_t most = std::min(limits.max, type.max);
  if (const int64_t* negative = value.negative()) {
    if (*negative < least) {
      return Fail(ErrorKind::kInvalidArgument, "{} is out of range, {} to {}", *negative, least,
                  most);
    }
    return static_cast<uint64_t>(*negative);
  }
  const uint64_t* number = value.number();
  if (number == nullptr) return WrongType("a number", value);
  if (*number > most || (least > 0 && *number < static_cast<uint64_t>(least))) {
    return Fail(ErrorKind::kInvalidArgument, "{} is out of range, {} to {}", *number, least, most);
  }
  return *number;
}

Result<const std::string*> DecodeText(const Value& value, const Limits& limits) {
  const std::string* text = value.text();
  if (text == nullptr) return WrongType("a text", value);
  if (text->size() > limits.max_length) {
    return Fail(ErrorKind::kInvalidArgument, "{} bytes are too long, at most {} are allowed",
                text->size(), limits.max_length);
  }
  return text;
}

Result<const Value::Array*> DecodeList(const Value& value, const Limits& limits) {
  const Value::Array* items = value.array();
  if (items == nullptr) return WrongType("a list", value);
  if (items->size() > limits.max_length) {
    return Fail(ErrorKind::kInvalidArgument, "{} items are too many, at most {} are allowed",
                items->size(), limits.max_length);
  }
  return items;
}

Result<Value::Bytes> DecodeBytes(const Value& value, const Limits& limits) {
  Value::Bytes result;
  if (const Value::Bytes* bytes = value.bytes()) {
    result = *bytes;
  } else if (const Value::Array* items = value.array()) {
    for (const Value& item : *items) {
      const uint64_t byte = TRY(DecodeInteger(item, {}, {0, UINT8_MAX}));
      result.push_back(static_cast<uint8_t>(byte));
    }
  } else {
    return WrongType("bytes", value);
  }
  if (result.size() > limits.max_length) {
    return Fail(ErrorKind::kInvalidArgument, "{} bytes are too long, at most {} are allowed",
                result.size(), limits.max_length);
  }
  return result;
}

Result<bool> DecodeBool(const Value& value) {
  const bool* boolean = value.boolean();
  if (boolean == nullptr) return WrongType("true or false", value);
  return *boolean;
}

Result<uint32_t> DecodeSlot(const Value& value, DecodeContext& context) {
  const uint64_t* index = value.number();
  if (index == nullptr) return WrongType("the index of a descriptor", value);
  if (*index >= context.fd_count) {
    return Fail(ErrorKind::kProtocol, "descriptor {} is named, but {} came with the message",
                *index, context.fd_count);
  }
  context.slots_seen.resize(context.fd_count);
  if (context.slots_seen[*index]) {
    return Fail(ErrorKind::kProtocol, "descriptor {} is named twice", *index);
  }
  context.slots_seen[*index] = true;
  return static_cast<uint32_t>(*index);
}

std::unexpected<Error> UnknownChoice(std::string_view text, std::string_view choices) {
  return Fail(ErrorKind::kInvalidArgument, "\"{}\" is none of {}", text, choices);
}

Value EncodeStruct(std::span<const FieldEntry> fields, bool transparent, const void* object) {
  if (transparent) return fields[0].ops->encode(GetConst(fields[0], object));
  Value::Object members;
  members.reserve(fields.size());
  for (const FieldEntry& field : fields) {
    members.push_back({std::string(field.name), field.ops->encode(GetConst(field, object))});
  }
  return Value(std::move(members));
}

Status DecodeStruct(std::span<const FieldEntry> fields, bool transparent, const Value& value,
                    DecodeContext& context, void* object) {
  if (transparent) {
    return fields[0].ops->decode(value, fields[0].limits, context, fields[0].get(object));
  }
  const Value::Object* members = value.object();
  if (members == nullptr) return WrongType("an object", value);
  for (const Member& member : *members) {
    const FieldEntry* field = FindField(fields, member.name);
    if (field == nullptr) {
      return Fail(ErrorKind::kInvalidArgument, "\"{}\" is not known here; known are: {}",
                  member.name, KnownNames(fields));
    }
    TRY_CONTEXT(field->ops->decode(member.value, field->limits, context, field->get(object)), "{}",
                field->name);
  }
  for (const FieldEntry& field : fields) {
    if (field.required && value.Find(field.name) == nullptr) {
      return Fail(ErrorKind::kInvalidArgument, "\"{}\" is missing", field.name);
    }
  }
  return {};
}

Value EncodeVariant(const Alternative& alternative, const void* object) {
  std::string name(alternative.name);
  if (alternative.ops->fields().empty()) return Value(std::move(name));
  Value::Object members;
  members.push_back({std::move(name), alternative.ops->encode(object)});
  return Value(std::move(members));
}

Status DecodeVariant(std::span<const Alternative> alternatives, const Value& value,
                     DecodeContext& context, void* variant) {
  const std::string* bare = value.text();
  const Value::Object* tagged = value.object();
  if (bare == nullptr && (tagged == nullptr || tagged->size() != 1)) {
    return WrongType("a name, or an object with the name as its one member,", value);
  }
  const std::string& name = bare != nullptr ? *bare : tagged->front().name;
  std::string known;
  for (const Alternative& alternative : alternatives) {
    if (alternative.name == name) {
      void* object = alternative.emplace(variant);
      const bool empty = alternative.ops->fields().empty();
      if (bare != nullptr) {
        if (empty) return {};
        return Fail(ErrorKind::kInvalidArgument, "\"{}\" needs a content: {{\"{}\": …}}", name,
                    name);
      }
      if (empty) return Fail(ErrorKind::kInvalidArgument, "\"{}\" has no content", name);
      TRY_CONTEXT(alternative.ops->decode(tagged->front().value, Limits(), context, object), "{}",
                  name);
      return {};
    }
    if (!known.empty()) known += ", ";
    known += alternative.name;
  }
  return Fail(ErrorKind::kInvalidArgument, "\"{}\" is not known here; known are: {}", name, known);
}

}  // namespace crosvm::codec::internal

#include "codec/key_value.h"

#include <charconv>

namespace crosvm::codec {
namespace {

bool SameKey(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    const char x = a[i] == '_' ? '-' : a[i];
    const char y = b[i] == '_' ? '-' : b[i];
    if (x != y) return false;
  }
  return true;
}

const TypeOps& Inner(const TypeOps& ops) {
  const TypeOps* inner = &ops;
  while (inner->kind == Kind::kOptional || inner->kind == Kind::kList) inner = inner->item;
  return *inner;
}

bool IsList(const TypeOps& ops) {
  return ops.kind == Kind::kList || (ops.kind == Kind::kOptional && ops.item->kind == Kind::kList);
}

// Fields that have a text: nested structs, variants and descriptors have none.
bool HasText(const FieldEntry& field) {
  const Kind kind = Inner(*field.ops).kind;
  return kind == Kind::kBool || kind == Kind::kInteger || kind == Kind::kText;
}

Result<Value> ParseInteger(std::string_view text, bool size) {
  if (text.starts_with('-')) {
    int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size()) {
      return Fail(ErrorKind::kInvalidArgument, "\"{}\" is not a number", text);
    }
    return Value(number);
  }
  const uint64_t number = TRY(ParseNumber(text, size));
  return Value(number);
}

Result<Value> ParseItem(std::string_view text, const FieldEntry& field) {
  switch (Inner(*field.ops).kind) {
    case Kind::kBool: {
      const bool boolean = TRY(ParseBool(text));
      return Value(boolean);
    }
    case Kind::kInteger:
      return ParseInteger(text, field.size);
    default:
      return Value(std::string(text));
  }
}

std::string KnownKeys(std::span<const FieldEntry> fields) {
  std::string names;
  for (const FieldEntry& field : fields) {
    if (!HasText(field)) continue;
    if (!names.empty()) names += ", ";
    names += field.name;
  }
  return names.empty() ? "none" : names;
}

const FieldEntry* FindKey(std::span<const FieldEntry> fields, std::string_view key) {
  for (const FieldEntry& field : fields) {
    if (HasText(field) && SameKey(field.name, key)) return &field;
  }
  return nullptr;
}

const FieldEntry* NthPositional(std::span<const FieldEntry> fields, size_t n) {
  for (const FieldEntry& field : fields) {
    if (field.positional && n-- == 0) return &field;
  }
  return nullptr;
}

Status Add(const FieldEntry& field, Value value, Value::Object& members) {
  for (Member& member : members) {
    if (member.name != field.name) continue;
    if (!IsList(*field.ops)) {
      return Fail(ErrorKind::kInvalidArgument, "\"{}\" is given twice", field.name);
    }
    member.value.array()->push_back(std::move(value));
    return {};
  }
  if (IsList(*field.ops)) {
    Value::Array items;
    items.push_back(std::move(value));
    value = Value(std::move(items));
  }
  members.push_back({std::string(field.name), std::move(value)});
  return {};
}

// `item` is one part between separators. `leading` is the number of items so far that were all
// given without key.
Status ParseOne(std::string_view item, std::span<const FieldEntry> fields, size_t& leading,
                Value::Object& members) {
  const size_t equals = item.find('=');
  const std::string_view key = item.substr(0, equals);
  const FieldEntry* field = FindKey(fields, key);
  // A path may contain `=`: only a known key makes the first items keyed.
  const FieldEntry* positional = NthPositional(fields, leading);
  const bool first_places = leading == members.size() && positional != nullptr;
  if (first_places && (field == nullptr || equals == std::string_view::npos)) {
    ++leading;
    Value value = TRY_CONTEXT(ParseItem(item, *positional), "{}", positional->name);
    return Add(*positional, std::move(value), members);
  }
  if (field == nullptr) {
    return Fail(ErrorKind::kInvalidArgument, "\"{}\" is not a known key; known are: {}", key,
                KnownKeys(fields));
  }
  if (equals == std::string_view::npos) {
    if (Inner(*field->ops).kind != Kind::kBool) {
      return Fail(ErrorKind::kInvalidArgument, "\"{}\" needs a value: {}=…", key, key);
    }
    return Add(*field, Value(true), members);
  }
  Value value = TRY_CONTEXT(ParseItem(item.substr(equals + 1), *field), "{}", field->name);
  return Add(*field, std::move(value), members);
}

// The texts of a field: one for each item of a list, none for an empty optional.
void TextsOf(const Value& value, std::vector<std::string>& texts) {
  if (const Value::Array* items = value.array()) {
    for (const Value& item : *items) TextsOf(item, texts);
  } else if (const std::string* text = value.text()) {
    texts.push_back(*text);
  } else if (!value.is_null()) {
    texts.push_back(WriteJson(value));
  }
}

Value EncodeField(const FieldEntry& field, const void* object) {
  // SAFETY: FieldEntry::get only computes an address and nothing is written through it.
  return field.ops->encode(field.get(const_cast<void*>(object)));
}

std::string Placeholder(const FieldEntry& field) {
  const TypeOps& inner = Inner(*field.ops);
  if (inner.kind == Kind::kBool) return "BOOL";
  if (inner.kind == Kind::kInteger) return field.size ? "SIZE" : "N";
  if (inner.choices != nullptr) return inner.choices();
  std::string upper;
  for (const char c : field.name) {
    upper += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return upper;
}

}  // namespace

Result<uint64_t> ParseNumber(std::string_view text, bool size) {
  std::string_view digits = text;
  int base = 10;
  if (digits.starts_with("0x") || digits.starts_with("0X")) {
    digits.remove_prefix(2);
    base = 16;
  }
  unsigned shift = 0;
  if (size && !digits.empty()) {
    static constexpr std::string_view kSuffixes = "KMGT";
    const char last = digits.back();
    const char upper = last >= 'a' && last <= 'z' ? static_cast<char>(last - 'a' + 'A') : last;
    const size_t power = kSuffixes.find(upper);
    if (power != std::string_view::npos) {
      shift = static_cast<unsigned>(10 * (power + 1));
      digits.remove_suffix(1);
    }
  }
  uint64_t number = 0;
  const auto [stop, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), number, base);
  if (error == std::errc::result_out_of_range ||
      (error == std::errc() && number > UINT64_MAX >> shift)) {
    return Fail(ErrorKind::kInvalidArgument, "{} is too large", text);
  }
  if (error != std::errc() || stop != digits.end()) {
    return Fail(ErrorKind::kInvalidArgument, "\"{}\" is not a {}", text,
                size ? "size such as 512, 4K or 1G" : "whole number");
  }
  return number << shift;
}

Result<bool> ParseBool(std::string_view text) {
  if (text == "true" || text == "on") return true;
  if (text == "false" || text == "off") return false;
  return Fail(ErrorKind::kInvalidArgument, "\"{}\" is neither true nor false", text);
}

namespace internal {

Status ParseKeyValueInto(std::string_view text, KeyValueFormat format, const TypeOps& type,
                         void* object) {
  const std::span<const FieldEntry> fields = type.fields();
  Value::Object members;
  size_t leading = 0;
  while (!text.empty()) {
    const size_t cut = text.find(format.separator);
    const std::string_view item = text.substr(0, cut);
    if (item.empty() || cut + 1 == text.size()) {
      return Fail(ErrorKind::kInvalidArgument, "there is nothing before or after a \"{}\"",
                  format.separator);
    }
    TRY(ParseOne(item, fields, leading, members));
    text = cut == std::string_view::npos ? std::string_view() : text.substr(cut + 1);
  }
  DecodeContext context;
  return type.decode(Value(std::move(members)), Limits(), context, object);
}

std::string FormatKeyValue(KeyValueFormat format, const TypeOps& type, const void* object,
                           const void* defaults) {
  std::string text;
  for (const FieldEntry& field : type.fields()) {
    if (!HasText(field)) continue;
    const Value value = EncodeField(field, object);
    if (!field.positional && value == EncodeField(field, defaults)) continue;
    std::vector<std::string> texts;
    TextsOf(value, texts);
    for (const std::string& one : texts) {
      if (!text.empty()) text += format.separator;
      if (!field.positional) {
        text += field.name;
        text += '=';
      }
      text += one;
    }
  }
  return text;
}

std::string GrammarOf(KeyValueFormat format, const TypeOps& type) {
  std::string text;
  for (const FieldEntry& field : type.fields()) {
    if (!HasText(field)) continue;
    std::string item;
    if (!text.empty()) item += format.separator;
    if (!field.positional) item += fmt::format("{}=", field.name);
    item += Placeholder(field);
    text += field.required ? item : fmt::format("[{}]", item);
    if (IsList(*field.ops)) text += "…";
  }
  return text;
}

std::string HelpOf(KeyValueFormat /*format*/, const TypeOps& type, const void* defaults) {
  std::string text;
  for (const FieldEntry& field : type.fields()) {
    if (!HasText(field)) continue;
    const std::string key = field.positional ? Placeholder(field)
                                             : fmt::format("{}={}", field.name, Placeholder(field));
    text += fmt::format("  {:<28} {}", key, field.help);
    std::vector<std::string> texts;
    TextsOf(EncodeField(field, defaults), texts);
    if (!field.required && texts.size() == 1 && !texts[0].empty()) {
      text += fmt::format(" (default {})", texts[0]);
    }
    text += '\n';
  }
  return text;
}

}  // namespace internal
}  // namespace crosvm::codec

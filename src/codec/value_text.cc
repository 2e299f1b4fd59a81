// The one place that knows nlohmann-json. Parsing goes through its event interface into our own
// tree: its documents abort on a wrong type, keep the last of two equal names and turn large
// integers into fractions.
#include <cstddef>
#include <optional>

#include <nlohmann/json.hpp>

#include "codec/value.h"

namespace crosvm::codec {
namespace {

using nlohmann::ordered_json;

// Receives the events of nlohmann's parsers; every method returns false to stop. The names are
// theirs.
class TreeBuilder {
 public:
  explicit TreeBuilder(bool cbor) : cbor_(cbor) {}

  bool null() { return Add(Value()); }
  bool boolean(bool value) { return Add(Value(value)); }
  bool number_integer(int64_t value) {
    // CBOR has negative numbers down to -2^64; the library lets those below -2^63 wrap around to
    // positive ones.
    if (cbor_ && value >= 0) return Refuse("a negative number is too large");
    return Add(Value(value));
  }
  bool number_unsigned(uint64_t value) { return Add(Value(value)); }
  bool number_float(double, const std::string&) {
    return Refuse("a number is a fraction or too large; only whole numbers of 64 bits are used");
  }
  bool string(std::string& value) { return Add(Value(std::move(value))); }
  bool binary(nlohmann::json::binary_t& value) {
    if (value.has_subtype()) return Refuse("bytes with a subtype");
    return Add(Value(std::move(static_cast<std::vector<uint8_t>&>(value))));
  }
  bool start_object(size_t) { return Open(Value(Value::Object())); }
  bool start_array(size_t) { return Open(Value(Value::Array())); }
  bool key(std::string& name) {
    const Value& top = *open_.back();
    if (top.Find(name) != nullptr) return Refuse(fmt::format("\"{}\" is given twice", name));
    if (top.object()->size() >= kMaxMembers) return Refuse("an object has too many members");
    name_ = std::move(name);
    return true;
  }
  bool end_object() { return Close(); }
  bool end_array() { return Close(); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) {
    if (problem_.empty()) {
      // Theirs reads "[json.exception.parse_error.101] parse error at …: syntax error …"; the
      // bracket is noise.
      std::string_view what = error.what();
      const size_t bracket = what.find("] ");
      if (bracket != std::string_view::npos) what.remove_prefix(bracket + 2);
      problem_ = fmt::format("byte {}: {}", position, what);
    }
    return false;
  }

  Value TakeRoot() { return std::move(root_); }
  const std::string& problem() const { return problem_; }

 private:
  // Names are compared one by one, so this bounds the work of a hostile object; no struct of ours
  // comes near it.
  static constexpr size_t kMaxMembers = 1024;

  bool Refuse(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }

  Value* Place(Value value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (Value::Array* array = open_.back()->array()) return &array->emplace_back(std::move(value));
    Value::Object& object = *open_.back()->object();
    return &object.emplace_back(Member{std::move(name_), std::move(value)}).value;
  }

  bool Add(Value value) {
    Place(std::move(value));
    return true;
  }

  bool Open(Value container) {
    if (open_.size() >= kMaxDepth) return Refuse(fmt::format("nested deeper than {}", kMaxDepth));
    // The parent's list does not grow before this container is closed, so the pointer stays valid.
    open_.push_back(Place(std::move(container)));
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  const bool cbor_;
  Value root_;
  std::vector<Value*> open_;
  std::string name_;
  std::string problem_;
};

ordered_json ToDocument(const Value& value, bool bytes_as_list) {
  if (const bool* boolean = value.boolean()) return *boolean;
  if (const int64_t* negative = value.negative()) return *negative;
  if (const uint64_t* number = value.number()) return *number;
  if (const std::string* text = value.text()) return *text;
  if (const Value::Bytes* bytes = value.bytes()) {
    return bytes_as_list ? ordered_json(*bytes) : ordered_json::binary(*bytes);
  }
  if (const Value::Array* array = value.array()) {
    ordered_json list = ordered_json::array();
    for (const Value& item : *array) list.push_back(ToDocument(item, bytes_as_list));
    return list;
  }
  if (const Value::Object* object = value.object()) {
    ordered_json map = ordered_json::object();
    for (const Member& member : *object) {
      map[member.name] = ToDocument(member.value, bytes_as_list);
    }
    return map;
  }
  return nullptr;
}

// Whether a string (of bytes or of text) of pieces stands anywhere in `bytes`. The library takes
// the pieces by calling itself once for each that is open, so some ten thousand bytes end the
// stack. WriteCbor() makes none. Items stand one behind the other however they are nested, so their
// heads are walked in a row; where the walk ends early, the library refuses the bytes at the same
// place.
bool HasStringOfPieces(std::span<const uint8_t> bytes) {
  constexpr uint8_t kByteString = 2;
  constexpr uint8_t kTextString = 3;
  constexpr uint8_t kOneByteFollows = 24;
  constexpr uint8_t kEightBytesFollow = 27;
  constexpr uint8_t kNoLength = 31;
  while (!bytes.empty()) {
    // RFC 8949, 3: three bits say what it is, five how long its argument is, or are that.
    const uint8_t kind = bytes.front() >> 5;
    const uint8_t information = bytes.front() & 0x1f;
    const bool string = kind == kByteString || kind == kTextString;
    bytes = bytes.subspan(1);
    if (information > kEightBytesFollow) {
      if (information != kNoLength) return false;
      if (string) return true;
      continue;
    }
    uint64_t argument = information;
    if (information >= kOneByteFollows) {
      const size_t length = size_t{1} << (information - kOneByteFollows);
      if (length > bytes.size()) return false;
      argument = 0;
      for (const uint8_t byte : bytes.first(length)) argument = argument << 8 | byte;
      bytes = bytes.subspan(length);
    }
    if (!string) continue;
    if (argument > bytes.size()) return false;
    bytes = bytes.subspan(static_cast<size_t>(argument));
  }
  return false;
}

}  // namespace

Result<Value> ParseJson(std::string_view text, JsonComments comments) {
  TreeBuilder builder(/*cbor=*/false);
  if (!nlohmann::json::sax_parse(text, &builder, nlohmann::json::input_format_t::json,
                                 /*strict=*/true, comments == JsonComments::kAllowed)) {
    return Fail(ErrorKind::kInvalidArgument, "not valid JSON: {}", builder.problem());
  }
  return builder.TakeRoot();
}

Result<Value> ParseCbor(std::span<const uint8_t> bytes) {
  TreeBuilder builder(/*cbor=*/true);
  // The library reads the first byte of an empty range without complaint only through this check.
  if (bytes.empty()) return Fail(ErrorKind::kProtocol, "not valid CBOR: no bytes");
  if (HasStringOfPieces(bytes))
    return Fail(ErrorKind::kProtocol, "not valid CBOR: a string of pieces; write it as one");
  if (!nlohmann::json::sax_parse(bytes.begin(), bytes.end(), &builder,
                                 nlohmann::json::input_format_t::cbor)) {
    return Fail(ErrorKind::kProtocol, "not valid CBOR: {}", builder.problem());
  }
  return builder.TakeRoot();
}

std::string WriteJson(const Value& value, int indent) {
  return ToDocument(value, /*bytes_as_list=*/true)
      .dump(indent, ' ', /*ensure_ascii=*/false, ordered_json::error_handler_t::replace);
}

std::vector<uint8_t> WriteCbor(const Value& value) {
  return ordered_json::to_cbor(ToDocument(value, /*bytes_as_list=*/false));
}

}  // namespace crosvm::codec

#include "tables/aml.h"

#include <algorithm>
#include <cctype>

#include "base/check.h"

namespace crosvm::tables::aml {
namespace {

constexpr uint8_t kExtended = 0x5b;

// The length that stands in front of a package of `content` bytes and counts itself
// (ACPI 6.5, 20.2.4).
Term PackageLength(size_t content) {
  if (content + 1 < 0x40) return {static_cast<uint8_t>(content + 1)};
  for (unsigned follow = 1; follow <= 3; ++follow) {
    const size_t total = content + 1 + follow;
    if (total >= (size_t{1} << (4 + 8 * follow))) continue;
    Term out = {static_cast<uint8_t>((follow << 6) | (total & 0xf))};
    for (unsigned i = 0; i < follow; ++i) out.push_back(static_cast<uint8_t>(total >> (4 + 8 * i)));
    return out;
  }
  CHECK(false, "an AML package of {} bytes", content);
  return {};
}

Term Packaged(std::initializer_list<uint8_t> opcode, const Term& content) {
  const Term length = PackageLength(content.size());
  ByteWriter out;
  for (const uint8_t byte : opcode) out.U8(byte);
  out.Append(length).Append(content);
  return std::move(out).Take();
}

Term Op(std::initializer_list<uint8_t> opcode, std::initializer_list<Term> operands) {
  ByteWriter out;
  for (const uint8_t byte : opcode) out.U8(byte);
  for (const Term& operand : operands) out.Append(operand);
  return std::move(out).Take();
}

Term With(const Term& head, std::initializer_list<Term> body) {
  return Sequence({head, Sequence(body)});
}

bool IsLeadChar(char c) {
  return (c >= 'A' && c <= 'Z') || c == '_';
}

void AppendSegment(ByteWriter& out, std::string_view segment) {
  CHECK(!segment.empty() && segment.size() <= 4 && IsLeadChar(segment[0]), "AML name '{}'",
        segment);
  for (const char c : segment)
    CHECK(IsLeadChar(c) || (c >= '0' && c <= '9'), "AML name '{}'", segment);
  out.FixedText(segment, 4, '_');
}

uint8_t HexDigit(char c) {
  if (c >= '0' && c <= '9') return static_cast<uint8_t>(c - '0');
  if (c >= 'A' && c <= 'F') return static_cast<uint8_t>(c - 'A' + 10);
  CHECK(c >= 'a' && c <= 'f', "hexadecimal digit '{}'", c);
  return static_cast<uint8_t>(c - 'a' + 10);
}

Term TargetOrNowhere(const Term& target) {
  return target.empty() ? Term{0} : target;
}

}  // namespace

Term Sequence(std::span<const Term> terms) {
  Term out;
  for (const Term& term : terms) out.insert(out.end(), term.begin(), term.end());
  return out;
}

Term Sequence(std::initializer_list<Term> terms) {
  return Sequence(std::span(terms.begin(), terms.size()));
}

Term Path(std::string_view path) {
  ByteWriter out;
  while (!path.empty() && (path[0] == '\\' || path[0] == '^')) {
    out.U8(static_cast<uint8_t>(path[0]));
    path.remove_prefix(1);
  }
  const size_t count =
      path.empty() ? 0 : static_cast<size_t>(std::count(path.begin(), path.end(), '.')) + 1;
  CHECK(count <= 255);
  if (count == 0) out.U8(0);
  if (count == 2) out.U8(0x2e);
  if (count > 2) out.U8(0x2f).U8(static_cast<uint8_t>(count));
  for (size_t i = 0; i < count; ++i) {
    const size_t dot = std::min(path.find('.'), path.size());
    AppendSegment(out, path.substr(0, dot));
    path.remove_prefix(std::min(dot + 1, path.size()));
  }
  return std::move(out).Take();
}

Term Integer(uint64_t value) {
  ByteWriter out;
  if (value <= 1) {
    out.U8(static_cast<uint8_t>(value));
  } else if (value <= 0xff) {
    out.U8(0x0a).U8(static_cast<uint8_t>(value));
  } else if (value <= 0xffff) {
    out.U8(0x0b).U16(static_cast<uint16_t>(value));
  } else if (value <= 0xffff'ffff) {
    out.U8(0x0c).U32(static_cast<uint32_t>(value));
  } else {
    out.U8(0x0e).U64(value);
  }
  return std::move(out).Take();
}

Term String(std::string_view text) {
  for (const char c : text) CHECK(c >= 1 && c <= 0x7e, "AML string '{}'", text);
  ByteWriter out;
  out.U8(0x0d).Text(text).U8(0);
  return std::move(out).Take();
}

Term Buffer(std::span<const uint8_t> data) {
  return Packaged({0x11}, Sequence({Integer(data.size()), Term(data.begin(), data.end())}));
}

Term Package(std::span<const Term> elements) {
  CHECK(elements.size() <= 255);
  return Packaged({0x12}, Sequence({{static_cast<uint8_t>(elements.size())}, Sequence(elements)}));
}

Term Package(std::initializer_list<Term> elements) {
  return Package(std::span(elements.begin(), elements.size()));
}

Term LargePackage(std::span<const Term> elements) {
  return Packaged({0x13}, Sequence({Integer(elements.size()), Sequence(elements)}));
}

Term EisaId(std::string_view id) {
  CHECK(id.size() == 7, "EISA id '{}'", id);
  // Three letters of five bits and four hexadecimal digits, most significant byte first
  // (ACPI 6.5, 19.6.36).
  uint32_t value = 0;
  for (size_t i = 0; i < 3; ++i) {
    CHECK(id[i] >= 'A' && id[i] <= 'Z', "EISA id '{}'", id);
    value = (value << 5) | static_cast<uint32_t>(id[i] - '@');
  }
  for (size_t i = 3; i < 7; ++i) value = (value << 4) | HexDigit(id[i]);
  ByteWriter out;
  out.U8(0x0c).U32(__builtin_bswap32(value));
  return std::move(out).Take();
}

Term Uuid(std::string_view uuid) {
  CHECK(uuid.size() == 36, "UUID '{}'", uuid);
  // The first three groups are stored little-endian: the text position of each of the 16 bytes.
  constexpr std::array<size_t, 16> kPositions = {6,  4,  2,  0,  11, 9,  16, 14,
                                                 19, 21, 24, 26, 28, 30, 32, 34};
  Bytes data;
  for (const size_t at : kPositions) {
    data.push_back(static_cast<uint8_t>((HexDigit(uuid[at]) << 4) | HexDigit(uuid[at + 1])));
  }
  return Buffer(data);
}

Term Name(std::string_view path, const Term& value) {
  return Op({0x08}, {Path(path), value});
}

Term Scope(std::string_view path, std::initializer_list<Term> body) {
  return Packaged({0x10}, With(Path(path), body));
}

Term Device(std::string_view path, std::initializer_list<Term> body) {
  return Packaged({kExtended, 0x82}, With(Path(path), body));
}

Term Method(std::string_view path, uint8_t argument_count, Serialized serialized,
            std::initializer_list<Term> body) {
  CHECK(argument_count <= 7);
  const uint8_t flags =
      static_cast<uint8_t>(argument_count | (serialized == Serialized::kYes ? 0x08 : 0));
  return Packaged({0x14}, With(Sequence({Path(path), {flags}}), body));
}

Term OperationRegion(std::string_view path, RegionSpace space, const Term& offset,
                     const Term& length) {
  return Op({kExtended, 0x80}, {Path(path), {static_cast<uint8_t>(space)}, offset, length});
}

Term Field(std::string_view region, FieldAccess access, std::span<const FieldUnit> units) {
  Term content = Sequence({Path(region), {static_cast<uint8_t>(access)}});
  for (const FieldUnit& unit : units) {
    ByteWriter out;
    if (unit.name.empty()) {
      out.U8(0);
    } else {
      AppendSegment(out, unit.name);
    }
    // A field's width is encoded like a package length, but does not count itself.
    if (unit.bits < 0x40) {
      out.U8(static_cast<uint8_t>(unit.bits));
    } else {
      CHECK(unit.bits < (1U << 12));
      out.U8(static_cast<uint8_t>(0x40 | (unit.bits & 0xf)))
          .U8(static_cast<uint8_t>(unit.bits >> 4));
    }
    content.insert(content.end(), out.bytes().begin(), out.bytes().end());
  }
  return Packaged({kExtended, 0x81}, content);
}

Term Mutex(std::string_view path, uint8_t sync_level) {
  return Op({kExtended, 0x01}, {Path(path), {sync_level}});
}

Term Arg(unsigned index) {
  CHECK(index <= 6);
  return {static_cast<uint8_t>(0x68 + index)};
}

Term Local(unsigned index) {
  CHECK(index <= 7);
  return {static_cast<uint8_t>(0x60 + index)};
}

Term Return(const Term& value) {
  return Op({0xa4}, {value});
}

Term Store(const Term& value, const Term& target) {
  return Op({0x70}, {value, target});
}

Term Notify(std::string_view object, const Term& value) {
  return Op({0x86}, {Path(object), value});
}

Term If(const Term& condition, std::initializer_list<Term> body) {
  return Packaged({0xa0}, With(condition, body));
}

Term Else(std::initializer_list<Term> body) {
  return Packaged({0xa1}, Sequence(body));
}

Term While(const Term& condition, std::initializer_list<Term> body) {
  return Packaged({0xa2}, With(condition, body));
}

Term Call(std::string_view method, std::initializer_list<Term> arguments) {
  return With(Path(method), arguments);
}

Term Acquire(std::string_view mutex, uint16_t timeout_ms) {
  return Op(
      {kExtended, 0x23},
      {Path(mutex), {static_cast<uint8_t>(timeout_ms), static_cast<uint8_t>(timeout_ms >> 8)}});
}

Term Release(std::string_view mutex) {
  return Op({kExtended, 0x27}, {Path(mutex)});
}

Term CreateField(unsigned bytes, const Term& buffer, const Term& byte_offset,
                 std::string_view name) {
  uint8_t opcode = 0;
  switch (bytes) {
    case 1:
      opcode = 0x8c;
      break;
    case 2:
      opcode = 0x8b;
      break;
    case 4:
      opcode = 0x8a;
      break;
    case 8:
      opcode = 0x8f;
      break;
    default:
      CHECK(false, "a field of {} bytes", bytes);
  }
  return Op({opcode}, {buffer, byte_offset, Path(name)});
}

Term Equal(const Term& a, const Term& b) {
  return Op({0x93}, {a, b});
}
Term Less(const Term& a, const Term& b) {
  return Op({0x95}, {a, b});
}
Term Greater(const Term& a, const Term& b) {
  return Op({0x94}, {a, b});
}
Term LogicalAnd(const Term& a, const Term& b) {
  return Op({0x90}, {a, b});
}
Term LogicalOr(const Term& a, const Term& b) {
  return Op({0x91}, {a, b});
}
Term LogicalNot(const Term& a) {
  return Op({0x92}, {a});
}

Term Binary(BinaryOp op, const Term& a, const Term& b, const Term& target) {
  return Op({static_cast<uint8_t>(op)}, {a, b, TargetOrNowhere(target)});
}

}  // namespace crosvm::tables::aml

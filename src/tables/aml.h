// Builds AML, the byte code of ACPI's DSDT (ACPI 6.5, chapter 20). Each function returns the
// encoding of one term; terms nest by being arguments:
//
//   aml::Device("COM1", {aml::Name("_HID", aml::EisaId("PNP0501")),
//                        aml::Name("_UID", aml::Integer(1))})
//
// Names and sizes come from code of ours, so a malformed one is a CHECK, not an error. Pure; any
// thread.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "tables/byte_writer.h"

namespace crosvm::tables::aml {

// Encoded AML of one term, or of several behind each other (Sequence).
using Term = Bytes;

// All parts behind each other; the way to put a list of computed length into an enclosing term.
Term Sequence(std::span<const Term> terms);
Term Sequence(std::initializer_list<Term> terms);

// `path` is a name string: optional `\` or `^`s, then segments of 1 to 4 characters joined by `.`;
// short segments are filled up with `_`. Used alone it is a reference to (or, for a method, a call
// without arguments of) that object.
Term Path(std::string_view path);
// The shortest encoding of the number.
Term Integer(uint64_t value);
Term String(std::string_view text);  // printable ASCII
Term Buffer(std::span<const uint8_t> data);
Term Package(std::span<const Term> elements);  // at most 255
Term Package(std::initializer_list<Term> elements);
// For more than 255 elements (VarPackage).
Term LargePackage(std::span<const Term> elements);
// A compressed EISA id such as "PNP0A03", as an integer.
Term EisaId(std::string_view id);
// "33DB4D5B-1FF7-401C-9657-7441C03DD766" as the 16-byte buffer of ACPI's ToUUID.
Term Uuid(std::string_view uuid);

// Objects of the name space.
Term Name(std::string_view path, const Term& value);
Term Scope(std::string_view path, std::initializer_list<Term> body);
Term Device(std::string_view path, std::initializer_list<Term> body);
enum class Serialized : bool { kNo, kYes };
Term Method(std::string_view path, uint8_t argument_count, Serialized serialized,
            std::initializer_list<Term> body);
enum class RegionSpace : uint8_t { kSystemMemory = 0, kSystemIo = 1 };
Term OperationRegion(std::string_view path, RegionSpace space, const Term& offset,
                     const Term& length);
struct FieldUnit {
  std::string_view name;  // empty: reserved bits
  uint32_t bits;
};
enum class FieldAccess : uint8_t { kAny = 0, kByte = 1, kWord = 2, kDword = 3, kQword = 4 };
Term Field(std::string_view region, FieldAccess access, std::span<const FieldUnit> units);
Term Mutex(std::string_view path, uint8_t sync_level = 0);

// Arguments and locals.
Term Arg(unsigned index);    // 0 to 6
Term Local(unsigned index);  // 0 to 7

// Statements.
Term Return(const Term& value);
Term Store(const Term& value, const Term& target);
Term Notify(std::string_view object, const Term& value);
Term If(const Term& condition, std::initializer_list<Term> body);
Term Else(std::initializer_list<Term> body);
Term While(const Term& condition, std::initializer_list<Term> body);
Term Call(std::string_view method, std::initializer_list<Term> arguments);
Term Acquire(std::string_view mutex, uint16_t timeout_ms);
Term Release(std::string_view mutex);
// An integer of 1, 2, 4 or 8 bytes at a byte offset of a buffer, under a name.
Term CreateField(unsigned bytes, const Term& buffer, const Term& byte_offset,
                 std::string_view name);

// Expressions. An empty target is "nowhere".
Term Equal(const Term& a, const Term& b);
Term Less(const Term& a, const Term& b);
Term Greater(const Term& a, const Term& b);
Term LogicalAnd(const Term& a, const Term& b);
Term LogicalOr(const Term& a, const Term& b);
Term LogicalNot(const Term& a);
enum class BinaryOp : uint8_t {
  kAdd = 0x72,
  kSubtract = 0x74,
  kMultiply = 0x77,
  kShiftLeft = 0x79,
  kShiftRight = 0x7a,
  kAnd = 0x7b,
  kOr = 0x7d,
  kXor = 0x7f,
  kIndex = 0x88,
};
Term Binary(BinaryOp op, const Term& a, const Term& b, const Term& target = {});

}  // namespace crosvm::tables::aml

#include "tables/byte_writer.h"

#include "base/check.h"
#include "base/checked_math.h"

namespace crosvm::tables {
namespace {

uint64_t Load(std::span<const uint8_t> bytes, size_t offset, size_t width) {
  CHECK(RangeFits(offset, width, bytes.size()));
  uint64_t value = 0;
  for (size_t i = 0; i < width; ++i) value |= uint64_t{bytes[offset + i]} << (8 * i);
  return value;
}

}  // namespace

ByteWriter& ByteWriter::U8(uint8_t value) {
  bytes_.push_back(value);
  return *this;
}

ByteWriter& ByteWriter::U16(uint16_t value) {
  return U8(static_cast<uint8_t>(value)).U8(static_cast<uint8_t>(value >> 8));
}

ByteWriter& ByteWriter::U32(uint32_t value) {
  return U16(static_cast<uint16_t>(value)).U16(static_cast<uint16_t>(value >> 16));
}

ByteWriter& ByteWriter::U64(uint64_t value) {
  return U32(static_cast<uint32_t>(value)).U32(static_cast<uint32_t>(value >> 32));
}

ByteWriter& ByteWriter::Append(std::span<const uint8_t> bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  return *this;
}

ByteWriter& ByteWriter::Text(std::string_view text) {
  bytes_.insert(bytes_.end(), text.begin(), text.end());
  return *this;
}

ByteWriter& ByteWriter::FixedText(std::string_view text, size_t width, uint8_t fill) {
  const std::string_view kept = text.substr(0, width);
  Text(kept);
  bytes_.insert(bytes_.end(), width - kept.size(), fill);
  return *this;
}

ByteWriter& ByteWriter::Zero(size_t count) {
  bytes_.insert(bytes_.end(), count, uint8_t{0});
  return *this;
}

void ByteWriter::PatchU8(size_t offset, uint8_t value) {
  CHECK(offset < bytes_.size());
  bytes_[offset] = value;
}

void ByteWriter::PatchU16(size_t offset, uint16_t value) {
  PatchU8(offset, static_cast<uint8_t>(value));
  PatchU8(offset + 1, static_cast<uint8_t>(value >> 8));
}

void ByteWriter::PatchU32(size_t offset, uint32_t value) {
  PatchU16(offset, static_cast<uint16_t>(value));
  PatchU16(offset + 2, static_cast<uint16_t>(value >> 16));
}

uint8_t ByteSum(std::span<const uint8_t> bytes) {
  unsigned sum = 0;
  for (const uint8_t byte : bytes) sum += byte;
  return static_cast<uint8_t>(sum);
}

uint8_t Checksum(std::span<const uint8_t> bytes) {
  return static_cast<uint8_t>(0x100U - ByteSum(bytes));
}

uint16_t LoadU16(std::span<const uint8_t> bytes, size_t offset) {
  return static_cast<uint16_t>(Load(bytes, offset, 2));
}
uint32_t LoadU32(std::span<const uint8_t> bytes, size_t offset) {
  return static_cast<uint32_t>(Load(bytes, offset, 4));
}
uint64_t LoadU64(std::span<const uint8_t> bytes, size_t offset) {
  return Load(bytes, offset, 8);
}

}  // namespace crosvm::tables

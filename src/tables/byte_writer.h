// Appends little-endian fields to a byte vector: what every firmware table here is made with. Pure;
// any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace crosvm::tables {

using Bytes = std::vector<uint8_t>;

class ByteWriter {
 public:
  ByteWriter& U8(uint8_t value);
  ByteWriter& U16(uint16_t value);
  ByteWriter& U32(uint32_t value);
  ByteWriter& U64(uint64_t value);
  ByteWriter& Append(std::span<const uint8_t> bytes);
  // The characters without a terminator.
  ByteWriter& Text(std::string_view text);
  // Exactly `width` bytes: the text cut or filled up with `fill`.
  ByteWriter& FixedText(std::string_view text, size_t width, uint8_t fill = ' ');
  ByteWriter& Zero(size_t count);

  // Overwrite bytes that were written before. `offset` lies inside what was written (CHECKed).
  void PatchU8(size_t offset, uint8_t value);
  void PatchU16(size_t offset, uint16_t value);
  void PatchU32(size_t offset, uint32_t value);

  size_t size() const { return bytes_.size(); }
  std::span<const uint8_t> bytes() const { return bytes_; }
  Bytes Take() && { return std::move(bytes_); }

 private:
  Bytes bytes_;
};

// The sum of the bytes modulo 256; 0 for a valid table.
uint8_t ByteSum(std::span<const uint8_t> bytes);
// What must be added to make ByteSum() zero.
uint8_t Checksum(std::span<const uint8_t> bytes);

// Little-endian loads; `offset` plus the width must lie inside (CHECKed).
uint16_t LoadU16(std::span<const uint8_t> bytes, size_t offset);
uint32_t LoadU32(std::span<const uint8_t> bytes, size_t offset);
uint64_t LoadU64(std::span<const uint8_t> bytes, size_t offset);

}  // namespace crosvm::tables

#include "tables/aml_resource.h"

#include "base/check.h"

namespace crosvm::tables::aml {
namespace {

enum class WindowType : uint8_t { kMemory = 0, kIo = 1, kBus = 2 };

// Both ends of the window are fixed, and the bridge decodes positively and forwards what lies in
// it.
constexpr uint8_t kFixedWindow = 0x0c;

// Writable, uncached or write-combining prefetchable (ACPI 6.5, table 6.51).
constexpr uint8_t kReadWrite = 0x01;
constexpr uint8_t kPrefetchable = 0x06;

Term Done(ByteWriter&& writer) {
  return std::move(writer).Take();
}

}  // namespace

Term ResourceTemplate(std::span<const Term> descriptors) {
  // The end tag's checksum may be 0: "treat as correct" (6.4.2.9).
  return Buffer(Sequence({Sequence(descriptors), {0x79, 0x00}}));
}

Term ResourceTemplate(std::initializer_list<Term> descriptors) {
  return ResourceTemplate(std::span(descriptors.begin(), descriptors.size()));
}

Term IoPorts(uint16_t base, uint8_t count) {
  ByteWriter out;
  out.U8(0x47).U8(1).U16(base).U16(base).U8(1).U8(count);
  return Done(std::move(out));
}

Term LegacyIrq(uint8_t irq, Shared shared) {
  CHECK(irq < 16);
  ByteWriter out;
  const uint16_t mask = static_cast<uint16_t>(1U << irq);
  if (shared == Shared::kNo) {
    out.U8(0x22).U16(mask);
  } else {
    out.U8(0x23).U16(mask).U8(0x11);  // edge (bit 0), shared (bit 4)
  }
  return Done(std::move(out));
}

Term LevelInterrupt(uint32_t gsi) {
  // Flags: consumer (bit 0), level (bit 1 clear), active high (bit 2 clear), shared (bit 3).
  ByteWriter out;
  out.U8(0x89).U16(6).U8(0x09).U8(1).U32(gsi);
  return Done(std::move(out));
}

Term FixedMemory32(uint32_t base, uint32_t length, bool writable) {
  ByteWriter out;
  out.U8(0x86).U16(9).U8(writable ? 1 : 0).U32(base).U32(length);
  return Done(std::move(out));
}

Term BusNumbers(uint16_t first, uint16_t count) {
  CHECK(count > 0);
  ByteWriter out;
  out.U8(0x88).U16(13).U8(static_cast<uint8_t>(WindowType::kBus)).U8(kFixedWindow).U8(0);
  out.U16(0).U16(first).U16(static_cast<uint16_t>(first + count - 1)).U16(0).U16(count);
  return Done(std::move(out));
}

Term IoWindow(uint16_t first, uint32_t count) {
  CHECK(count > 0 && count <= 0xffff && first + count <= 0x10000);
  // Type flags 3: the whole range, ISA and non-ISA addresses alike.
  ByteWriter out;
  out.U8(0x88).U16(13).U8(static_cast<uint8_t>(WindowType::kIo)).U8(kFixedWindow).U8(3);
  out.U16(0).U16(first).U16(static_cast<uint16_t>(first + count - 1)).U16(0);
  out.U16(static_cast<uint16_t>(count));
  return Done(std::move(out));
}

Term MemoryWindow32(uint32_t base, uint32_t length) {
  CHECK(length > 0 && base <= 0xffff'ffff - (length - 1));
  ByteWriter out;
  out.U8(0x87).U16(23).U8(static_cast<uint8_t>(WindowType::kMemory)).U8(kFixedWindow);
  out.U8(kReadWrite).U32(0).U32(base).U32(base + (length - 1)).U32(0).U32(length);
  return Done(std::move(out));
}

Term MemoryWindow64(uint64_t base, uint64_t length, Prefetchable prefetchable) {
  CHECK(length > 0 && base <= UINT64_MAX - (length - 1));
  const uint8_t flags =
      static_cast<uint8_t>(kReadWrite | (prefetchable == Prefetchable::kYes ? kPrefetchable : 0));
  ByteWriter out;
  out.U8(0x8a).U16(43).U8(static_cast<uint8_t>(WindowType::kMemory)).U8(kFixedWindow).U8(flags);
  out.U64(0).U64(base).U64(base + (length - 1)).U64(0).U64(length);
  return Done(std::move(out));
}

}  // namespace crosvm::tables::aml

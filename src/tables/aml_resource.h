// Resource descriptors of a device's _CRS (ACPI 6.5, 6.4). Join them with ResourceTemplate():
//
//   aml::Name("_CRS", aml::ResourceTemplate({aml::IoPorts(0x3f8, 8), aml::LegacyIrq(4)}))
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>

#include "tables/aml.h"

namespace crosvm::tables::aml {

// The buffer with all descriptors and the end tag.
Term ResourceTemplate(std::span<const Term> descriptors);
Term ResourceTemplate(std::initializer_list<Term> descriptors);

// `count` ports from `base`, decoded with 16 bits.
Term IoPorts(uint16_t base, uint8_t count);
// An edge-triggered, active-high ISA interrupt, 0 to 15.
enum class Shared : bool { kNo, kYes };
Term LegacyIrq(uint8_t irq, Shared shared = Shared::kNo);
// A level-triggered, active-high, shared interrupt of any GSI.
Term LevelInterrupt(uint32_t gsi);
Term FixedMemory32(uint32_t base, uint32_t length, bool writable = true);

// Windows a bridge forwards: first and length.
Term BusNumbers(uint16_t first, uint16_t count);
Term IoWindow(uint16_t first, uint32_t count);
Term MemoryWindow32(uint32_t base, uint32_t length);
enum class Prefetchable : bool { kNo, kYes };
Term MemoryWindow64(uint64_t base, uint64_t length, Prefetchable prefetchable);

}  // namespace crosvm::tables::aml

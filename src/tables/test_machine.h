// A machine with everything in it, for the tests of this folder.
#pragma once

#include "tables/acpi.h"

namespace crosvm::tables {

inline std::vector<PciInterrupt> TestInterrupts() {
  std::vector<PciInterrupt> lines;
  for (uint8_t slot = 0; slot < 32; ++slot) {
    for (uint8_t pin = 0; pin < 4; ++pin) {
      lines.push_back({.slot = slot, .pin = pin, .gsi = 9U + (slot + pin) % 4});
    }
  }
  return lines;
}

inline AcpiConfig FullMachine() {
  AcpiConfig config;
  config.apic_ids = {0, 1, 2, 3};
  config.local_apic_address = 0xfee0'0000;
  config.ioapic_address = 0xfec0'0000;
  config.overrides = {{.isa_irq = 5, .gsi = 5, .flags = kIntiLevelHigh}};
  config.power = {.sci = 5,
                  .pm1_event = 0xc000,
                  .pm1_control = 0xc004,
                  .pm_timer = 0xc008,
                  .gpe0 = 0xc010,
                  .gpe0_length = 4,
                  .reset_port = 0xcf9,
                  .reset_value = 6,
                  .s5_type = 0,
                  .s1_type = 1};
  config.pci = AcpiPciHost{.bus_count = 64,
                           .ecam_base = 0xf800'0000,
                           .low_window = {.base = 0xd000'0000, .size = 0x2800'0000},
                           .high_window = {.base = 0x1'4000'0000, .size = 0x10'0000'0000},
                           .native_hotplug = true,
                           .interrupts = TestInterrupts()};
  config.serials = {{0x3f8, 4}, {0x2f8, 3}, {0x3e8, 4}, {0x2e8, 3}};
  config.rtc = true;
  config.i8042 = true;
  config.pvpanic_port = 0x505;
  return config;
}

}  // namespace crosvm::tables

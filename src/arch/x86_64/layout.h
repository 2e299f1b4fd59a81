// The address table of the x86_64 machine: every fixed guest-physical address, port and interrupt
// number. Used by this folder and by vm/ when it puts devices on the buses.
#pragma once

#include <array>
#include <cstdint>

#include "memory/guest_addr.h"

namespace crosvm::x86_64 {

using memory::GuestAddr;

inline constexpr uint64_t kPageSize = 4096;
inline constexpr uint64_t k4Gib = uint64_t{1} << 32;

// --- below 1 MiB ---
inline constexpr GuestAddr kBootGdt{0x500};
inline constexpr GuestAddr kBootIdt{0x520};
inline constexpr GuestAddr kPvhStartInfo{0x6000};
inline constexpr GuestAddr kZeroPage{0x7000};
inline constexpr GuestAddr kBootStack{
    0x8000};  // grows down; above the zero page only a page table follows
inline constexpr GuestAddr kPml4{0x9000};
inline constexpr GuestAddr kPdpt{0xa000};
inline constexpr GuestAddr kPageDirectories{0xb000};  // four, for 4 GiB
inline constexpr GuestAddr kCommandLine{0x20000};
inline constexpr uint64_t kCommandLineMax = 0x9fc00 - 0x20000;  // with the NUL
inline constexpr GuestAddr kMpFloatingPointer{0x9fc00};         // the last KiB of base memory
inline constexpr uint64_t kBaseMemoryEnd = 0x9fc00;
inline constexpr GuestAddr kRsdp{0xe0000};
inline constexpr GuestAddr kSmbios{0xf0000};
inline constexpr uint64_t kSmbiosMax = 0x8000;
inline constexpr GuestAddr kMpConfiguration{0xf8000};
inline constexpr uint64_t kMpConfigurationMax = 0x8000;

// --- 1 MiB and up ---
// ACPI tables too large for the room below kSmbios go here; the range is then no RAM for the guest.
inline constexpr GuestAddr kLargeAcpi{0x10'0000};
inline constexpr uint64_t kLargeAcpiMax = 0x10'0000;
inline constexpr GuestAddr kKernelLowest{0x20'0000};

// --- the hole below 4 GiB ---
inline constexpr uint64_t kLowRamLimit = 0xd000'0000;
inline constexpr uint64_t kPciLowBase = 0xd000'0000;  // 32-bit BARs and small MMIO devices
inline constexpr uint64_t kPciLowSize = 0x2800'0000;  // to 0xf7ff'ffff
inline constexpr uint64_t kEcamBase = 0xf800'0000;
inline constexpr uint64_t kEcamBytesPerBus = 1 << 20;
inline constexpr uint64_t kEcamReserved =
    64 * kEcamBytesPerBus;  // to 0xfbff'ffff, for up to 64 buses
inline constexpr uint64_t kIoApicBase = 0xfec0'0000;
inline constexpr uint64_t kLocalApicBase = 0xfee0'0000;
// KVM's own pages for Intel hosts; below the largest firmware.
inline constexpr uint64_t kIdentityMapBase = 0xfeff'c000;
inline constexpr uint64_t kTssBase = 0xfeff'd000;         // three pages
inline constexpr uint64_t kFirmwareMax = 0x0100'0000;     // ends at 4 GiB
inline constexpr uint64_t kFirmwareShadowMax = 0x2'0000;  // of its end, again below 1 MiB

// --- ports ---
struct SerialAddress {
  uint16_t port;
  uint8_t irq;
};
inline constexpr std::array<SerialAddress, 4> kSerials = {
    {{0x3f8, 4}, {0x2f8, 3}, {0x3e8, 4}, {0x2e8, 3}}};
inline constexpr uint16_t kSerialPorts = 8;
inline constexpr uint16_t kI8042Data = 0x60;
inline constexpr uint16_t kSystemControlB = 0x61;
inline constexpr uint16_t kI8042Command = 0x64;
inline constexpr uint16_t kRtcPort = 0x70;
inline constexpr uint16_t kDebugconPort = 0x402;
inline constexpr uint16_t kPvpanicPort = 0x505;
inline constexpr uint16_t kPciConfigPort = 0xcf8;  // to 0xcff
inline constexpr uint16_t kResetPort = 0xcf9;      // the PC chipsets' reset control register
inline constexpr uint8_t kResetValue = 0x06;
inline constexpr uint16_t kAcpiPmBase = 0xc000;
inline constexpr uint16_t kAcpiPmSize = 12;
inline constexpr uint16_t kPm1EventOffset = 0;    // status, enable: 2 bytes each
inline constexpr uint16_t kPm1ControlOffset = 4;  // 2 bytes
inline constexpr uint16_t kPmTimerOffset = 8;     // 4 bytes
// I/O BARs of PCI devices are allocated behind the ACPI block.
inline constexpr uint16_t kPciIoBase = 0xc400;
inline constexpr uint32_t kPciIoSize = 0x10000 - kPciIoBase;

// --- interrupts ---
inline constexpr uint32_t kSci = 5;  // level, active high
inline constexpr uint32_t kRtcIrq = 8;
inline constexpr uint32_t kFirstIntx = 9;  // four lines; reachable through the 8259 pair as well
inline constexpr uint32_t kIntxLines = 4;
inline constexpr uint32_t kIoApicPins = 24;        // of KVM's
inline constexpr uint32_t kSplitIoApicPins = 120;  // of the one in user space

// The GSI of INTA (pin 0) to INTD (pin 3) of a slot of bus 0: rotated so that neighbours do not
// share.
constexpr uint32_t IntxGsi(uint8_t slot, uint8_t pin) {
  return kFirstIntx + (slot + pin) % kIntxLines;
}

// What a kernel is told unless the user says otherwise: reset through the keyboard controller, and
// reset on panic.
inline constexpr const char* kDefaultCommandLine = "reboot=k panic=-1";

}  // namespace crosvm::x86_64

// Where a function sits on the PCI bus: bus, device, function. Used by everything that configures
// or names one.
#pragma once

#include <fmt/core.h>

#include <compare>
#include <cstdint>
#include <optional>
#include <string>

namespace crosvm::pci {

class Address {
 public:
  constexpr Address() = default;

  // Empty when the device is above 31 or the function above 7.
  static constexpr std::optional<Address> Make(uint8_t bus, uint8_t device, uint8_t function) {
    if (device > 31 || function > 7) return std::nullopt;
    return FromBits(static_cast<uint16_t>((bus << 8) | (device << 3) | function));
  }
  // The routing id: bus in bits 15..8, device in 7..3, function in 2..0. Every value is an address.
  static constexpr Address FromBits(uint16_t bits) {
    Address address;
    address.bits_ = bits;
    return address;
  }

  constexpr uint16_t bits() const { return bits_; }
  constexpr uint8_t bus() const { return static_cast<uint8_t>(bits_ >> 8); }
  constexpr uint8_t device() const { return (bits_ >> 3) & 31; }
  constexpr uint8_t function() const { return bits_ & 7; }
  // As lspci prints it: "00:03.0".
  std::string ToString() const {
    return fmt::format("{:02x}:{:02x}.{}", bus(), device(), function());
  }
  friend constexpr auto operator<=>(const Address&, const Address&) = default;

 private:
  uint16_t bits_ = 0;
};

}  // namespace crosvm::pci

// Which PCI addresses are taken, on every bus of the VM. Devices get the lowest free device number
// of a bus, in the order in which they are added, which is what makes guest device names stable.
// Not thread-safe.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "base/result.h"

namespace crosvm::resources {

struct PciSlot {
  uint8_t bus = 0;
  uint8_t device = 0;    // 0-31
  uint8_t function = 0;  // 0-7
  auto operator<=>(const PciSlot&) const = default;
  // "00:1f.7".
  std::string ToString() const;
};

class PciSlotAllocator {
 public:
  // Makes `bus` usable with device numbers from `first_device` to 31 (below a hotplug port: 0 only,
  // so last_device is 0). kAlreadyExists when it is known.
  Status AddBus(uint8_t bus, uint8_t first_device = 0, uint8_t last_device = 31);
  // kBusy when a slot of it is taken.
  Status RemoveBus(uint8_t bus);

  // Function 0 of the lowest device number of which nothing is taken. kBusy when the bus is full.
  Result<PciSlot> Allocate(uint8_t bus, std::string tag);
  // Exactly this one (any function). kBusy, naming the owner, when taken.
  Status AllocateAt(PciSlot slot, std::string tag);
  Status Release(PciSlot slot);

  // The owner's tag, or null.
  const std::string* Find(PciSlot slot) const;

 private:
  struct Bus {
    uint8_t first_device;
    uint8_t last_device;
  };
  Result<Bus> FindBus(uint8_t bus) const;

  std::map<uint8_t, Bus> buses_;
  std::map<PciSlot, std::string> taken_;
};

}  // namespace crosvm::resources

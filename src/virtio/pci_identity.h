// What a virtio device says it is on the PCI bus (virtio 1.2, 4.1.2).
#pragma once

#include <cstdint>

#include "pci/config_space.h"

namespace crosvm::virtio {

inline constexpr uint16_t kPciVendor = 0x1af4;
inline constexpr uint16_t kPciDeviceBase = 0x1040;

// `device_id` is a VIRTIO_ID_*. Classes are those that other VMMs use, so that guests' tools name
// the devices alike.
pci::Identity PciIdentity(uint16_t device_id);

}  // namespace crosvm::virtio

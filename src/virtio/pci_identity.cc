#include "virtio/pci_identity.h"

#include <linux/virtio_ids.h>

namespace crosvm::virtio {
namespace {

struct ClassCode {
  uint8_t base;
  uint8_t sub;
};

constexpr ClassCode ClassOf(uint16_t device_id) {
  switch (device_id) {
    case VIRTIO_ID_NET:
      return {0x02, 0x00};  // Ethernet
    case VIRTIO_ID_BLOCK:
    case VIRTIO_ID_SCSI:
      return {0x01, 0x00};  // SCSI storage
    case VIRTIO_ID_9P:
    case VIRTIO_ID_FS:
      return {0x01, 0x80};  // other storage
    case VIRTIO_ID_CONSOLE:
    case VIRTIO_ID_VSOCK:
      return {0x07, 0x80};  // other communication
    case VIRTIO_ID_GPU:
      return {0x03, 0x80};  // other display
    case VIRTIO_ID_SOUND:
      return {0x04, 0x01};  // audio
    case VIRTIO_ID_INPUT:
      return {0x09, 0x80};  // other input
    default:
      return {0x00, 0xff};  // unclassified
  }
}

}  // namespace

pci::Identity PciIdentity(uint16_t device_id) {
  const ClassCode code = ClassOf(device_id);
  const auto device = static_cast<uint16_t>(kPciDeviceBase + device_id);
  // A revision of 1 or more says: no legacy interface. 4.1.2.1.
  return {.vendor = kPciVendor,
          .device = device,
          .subsystem_vendor = kPciVendor,
          .subsystem = device,
          .revision = 1,
          .base_class = code.base,
          .sub_class = code.sub};
}

}  // namespace crosvm::virtio

// The common configuration structure of virtio-pci (virtio 1.2, 4.1.4.3) and the negotiation that
// it carries (2.1, 2.2, 3.1): a register file and state machine without I/O, allocation or locks
// after construction. What a write asks for comes back as a value; the owner (PciTransport) does it
// and reports the outcome.
//
//   0 ─► ACKNOWLEDGE ─► DRIVER ─► FEATURES_OK ─► DRIVER_OK        (0 again: reset)
//                                  └ only if the features are acceptable; else the bit stays clear
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "virtio/device.h"
#include "virtio/queue.h"
#include "virtio/types.h"

namespace crosvm::virtio {

inline constexpr uint32_t kCommonConfigSize = 0x40;  // with queue_reset (virtio 1.2) at 0x3a

struct QueueRegisters {
  uint16_t max_size = 0;
  uint16_t size = 0;
  uint16_t vector = 0xffff;
  bool enabled = false;
  bool resetting = false;
  RingAddresses addresses;
};

// What the owner has to do after a write. `queue` counts for those that name one, `value` for
// vectors.
struct CommonConfigAction {
  enum class Kind : uint8_t {
    kNone,
    kCheckFeatures,  // then AcceptFeatures() or nothing, which refuses
    kDriverOk,       // the device may run; the enabled queues are those with `enabled`
    kReset,          // then FinishReset(); until that the status does not read 0
    kEnableQueue,    // after DRIVER_OK only
    kResetQueue,     // then FinishQueueReset()
    kConfigVector,   // then SetConfigVector() with what is in force
    kQueueVector,    // then SetQueueVector() likewise
  };
  Kind kind = Kind::kNone;
  uint16_t queue = 0;
  uint16_t value = 0;
};

class CommonConfig {
 public:
  // `info` outlives this; its features may be narrowed by `offered`.
  CommonConfig(const DeviceInfo& info, uint64_t offered);

  // TRUST: any offset and width. Reads of any shape give the bytes of the registers; writes take
  // effect only with the width of the field (virtio 1.2, 4.1.3.1), or 8 bytes at once for the ring
  // addresses.
  void Read(uint32_t offset, std::span<uint8_t> data) const;
  [[nodiscard]] CommonConfigAction Write(uint32_t offset, std::span<const uint8_t> data);

  void AcceptFeatures();
  void FinishReset();
  void FinishQueueReset(uint16_t queue);
  void SetConfigVector(uint16_t vector) { config_vector_ = vector; }
  void SetQueueVector(uint16_t queue, uint16_t vector) { queues_[queue].vector = vector; }
  // The queue could not be started; it reads as not enabled.
  void RefuseQueue(uint16_t queue) { queues_[queue].enabled = false; }

  uint8_t status() const { return status_; }
  bool driver_ok() const { return (status_ & VIRTIO_CONFIG_S_DRIVER_OK) != 0; }
  uint64_t offered() const { return offered_; }
  uint64_t driver_features() const { return driver_features_; }
  std::span<const QueueRegisters> queues() const { return queues_; }

  // The owner's: the part of the status and the generation that change on other threads, put in
  // when read.
  void SetOverlay(bool needs_reset, uint8_t generation) {
    needs_reset_ = needs_reset;
    generation_ = generation;
  }

 private:
  struct Field;
  static const Field kFields[];
  static const Field* FieldAt(uint32_t offset, size_t width);

  uint64_t Value(const Field& field) const;
  CommonConfigAction SetValue(const Field& field, uint64_t value);
  CommonConfigAction WriteStatus(uint8_t value);
  CommonConfigAction WriteQueueEnable(uint16_t value);
  CommonConfigAction WriteQueueReset(uint16_t value);
  void WriteQueueSize(uint16_t value);
  void WriteQueueAddress(memory::GuestAddr& address, uint64_t value, uint32_t shift);
  bool QueueIsValid(const QueueRegisters& queue) const;
  bool packed() const { return (driver_features_ & FeatureBit(VIRTIO_F_RING_PACKED)) != 0; }
  bool features_ok() const { return (status_ & VIRTIO_CONFIG_S_FEATURES_OK) != 0; }
  // Null when queue_select names no queue.
  QueueRegisters* Selected();
  const QueueRegisters* Selected() const;

  const DeviceInfo& info_;
  const uint64_t offered_;
  uint32_t device_feature_select_ = 0;
  uint32_t driver_feature_select_ = 0;
  uint64_t driver_features_ = 0;
  uint8_t status_ = 0;
  bool resetting_ = false;
  bool needs_reset_ = false;
  uint8_t generation_ = 0;
  uint16_t config_vector_ = 0xffff;
  uint16_t queue_select_ = 0;
  std::vector<QueueRegisters> queues_;
};

// Whether the areas of a queue of this size, at these addresses, are aligned as virtio 1.2, 2.7
// and 2.8 want.
bool RingAddressesAligned(const RingAddresses& addresses, bool packed);

}  // namespace crosvm::virtio

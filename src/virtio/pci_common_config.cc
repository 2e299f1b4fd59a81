#include "virtio/pci_common_config.h"

#include <linux/virtio_pci.h>

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace crosvm::virtio {
namespace {

constexpr uint8_t kDriverBits = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
                                VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FEATURES_OK |
                                VIRTIO_CONFIG_S_FAILED;

using Kind = CommonConfigAction::Kind;

}  // namespace

struct CommonConfig::Field {
  uint8_t offset;
  uint8_t width;
};

// virtio 1.2, 4.1.4.3, in order of offset and without gaps up to its end.
constexpr CommonConfig::Field CommonConfig::kFields[] = {
    {VIRTIO_PCI_COMMON_DFSELECT, 4},  {VIRTIO_PCI_COMMON_DF, 4},
    {VIRTIO_PCI_COMMON_GFSELECT, 4},  {VIRTIO_PCI_COMMON_GF, 4},
    {VIRTIO_PCI_COMMON_MSIX, 2},      {VIRTIO_PCI_COMMON_NUMQ, 2},
    {VIRTIO_PCI_COMMON_STATUS, 1},    {VIRTIO_PCI_COMMON_CFGGENERATION, 1},
    {VIRTIO_PCI_COMMON_Q_SELECT, 2},  {VIRTIO_PCI_COMMON_Q_SIZE, 2},
    {VIRTIO_PCI_COMMON_Q_MSIX, 2},    {VIRTIO_PCI_COMMON_Q_ENABLE, 2},
    {VIRTIO_PCI_COMMON_Q_NOFF, 2},    {VIRTIO_PCI_COMMON_Q_DESCLO, 4},
    {VIRTIO_PCI_COMMON_Q_DESCHI, 4},  {VIRTIO_PCI_COMMON_Q_AVAILLO, 4},
    {VIRTIO_PCI_COMMON_Q_AVAILHI, 4}, {VIRTIO_PCI_COMMON_Q_USEDLO, 4},
    {VIRTIO_PCI_COMMON_Q_USEDHI, 4},  {VIRTIO_PCI_COMMON_Q_NDATA, 2},
    {VIRTIO_PCI_COMMON_Q_RESET, 2},
};

CommonConfig::CommonConfig(const DeviceInfo& info, uint64_t offered)
    : info_(info), offered_(offered) {
  CHECK(info.queue_sizes.size() < 0xffff);
  queues_.resize(info.queue_sizes.size());
  FinishReset();
}

const CommonConfig::Field* CommonConfig::FieldAt(uint32_t offset, size_t width) {
  for (const Field& field : kFields) {
    if (field.offset == offset && field.width == width) return &field;
  }
  return nullptr;
}

void CommonConfig::Read(uint32_t offset, std::span<uint8_t> data) const {
  std::fill(data.begin(), data.end(), uint8_t{0});
  const uint64_t begin = offset;
  const uint64_t end = begin + data.size();
  for (const Field& field : kFields) {
    if (field.offset + field.width <= begin || field.offset >= end) continue;
    const uint64_t value = Value(field);
    for (uint8_t i = 0; i < field.width; ++i) {
      const uint64_t at = uint64_t{field.offset} + i;
      if (at >= begin && at < end) data[at - begin] = static_cast<uint8_t>(value >> (8 * i));
    }
  }
}

CommonConfigAction CommonConfig::Write(uint32_t offset, std::span<const uint8_t> data) {
  uint64_t value = 0;
  // Until the reset is done, the registers still describe what is being torn down.
  if (data.size() > sizeof(value) || resetting_) return {};
  for (size_t i = 0; i < data.size(); ++i) value |= uint64_t{data[i]} << (8 * i);
  if (data.size() == 8) {
    // Only the three ring addresses are 64 bits wide.
    if (offset < VIRTIO_PCI_COMMON_Q_DESCLO || offset > VIRTIO_PCI_COMMON_Q_USEDLO ||
        offset % 8 != 0) {
      return {};
    }
    (void)SetValue(*FieldAt(offset, 4), value & 0xffff'ffff);
    return SetValue(*FieldAt(offset + 4, 4), value >> 32);
  }
  const Field* const field = FieldAt(offset, data.size());
  if (field == nullptr) return {};
  return SetValue(*field, value);
}

uint64_t CommonConfig::Value(const Field& field) const {
  const QueueRegisters* const queue = Selected();
  switch (field.offset) {
    case VIRTIO_PCI_COMMON_DFSELECT:
      return device_feature_select_;
    case VIRTIO_PCI_COMMON_DF:
      return device_feature_select_ < 2 ? (offered_ >> (32 * device_feature_select_)) & 0xffff'ffff
                                        : 0;
    case VIRTIO_PCI_COMMON_GFSELECT:
      return driver_feature_select_;
    case VIRTIO_PCI_COMMON_GF:
      return driver_feature_select_ < 2
                 ? (driver_features_ >> (32 * driver_feature_select_)) & 0xffff'ffff
                 : 0;
    case VIRTIO_PCI_COMMON_MSIX:
      return config_vector_;
    case VIRTIO_PCI_COMMON_NUMQ:
      return queues_.size();
    case VIRTIO_PCI_COMMON_STATUS:
      return status_ | (needs_reset_ ? VIRTIO_CONFIG_S_NEEDS_RESET : 0U);
    case VIRTIO_PCI_COMMON_CFGGENERATION:
      return generation_;
    case VIRTIO_PCI_COMMON_Q_SELECT:
      return queue_select_;
    default:
      break;
  }
  // 4.1.4.3.1: queue_size 0 means that the queue does not exist.
  if (queue == nullptr) return field.offset == VIRTIO_PCI_COMMON_Q_MSIX ? 0xffff : 0;
  switch (field.offset) {
    case VIRTIO_PCI_COMMON_Q_SIZE:
      return queue->size;
    case VIRTIO_PCI_COMMON_Q_MSIX:
      return queue->vector;
    case VIRTIO_PCI_COMMON_Q_ENABLE:
      return queue->enabled ? 1 : 0;
    case VIRTIO_PCI_COMMON_Q_NOFF:
      return queue_select_;
    case VIRTIO_PCI_COMMON_Q_DESCLO:
      return queue->addresses.descriptors.value() & 0xffff'ffff;
    case VIRTIO_PCI_COMMON_Q_DESCHI:
      return queue->addresses.descriptors.value() >> 32;
    case VIRTIO_PCI_COMMON_Q_AVAILLO:
      return queue->addresses.driver.value() & 0xffff'ffff;
    case VIRTIO_PCI_COMMON_Q_AVAILHI:
      return queue->addresses.driver.value() >> 32;
    case VIRTIO_PCI_COMMON_Q_USEDLO:
      return queue->addresses.device.value() & 0xffff'ffff;
    case VIRTIO_PCI_COMMON_Q_USEDHI:
      return queue->addresses.device.value() >> 32;
    case VIRTIO_PCI_COMMON_Q_RESET:
      return queue->resetting ? 1 : 0;
    default:  // queue_notify_data: NOTIF_CONFIG_DATA is not offered
      return 0;
  }
}

CommonConfigAction CommonConfig::SetValue(const Field& field, uint64_t value) {
  const auto low16 = static_cast<uint16_t>(value);
  switch (field.offset) {
    case VIRTIO_PCI_COMMON_DFSELECT:
      device_feature_select_ = static_cast<uint32_t>(value);
      return {};
    case VIRTIO_PCI_COMMON_GFSELECT:
      driver_feature_select_ = static_cast<uint32_t>(value);
      return {};
    case VIRTIO_PCI_COMMON_GF:
      // 3.1.1: after FEATURES_OK the driver must not accept new features.
      if (driver_feature_select_ < 2 && !features_ok()) {
        const uint32_t shift = 32 * driver_feature_select_;
        driver_features_ =
            (driver_features_ & ~(uint64_t{0xffff'ffff} << shift)) | (value << shift);
      }
      return {};
    case VIRTIO_PCI_COMMON_MSIX:
      return {.kind = Kind::kConfigVector, .value = low16};
    case VIRTIO_PCI_COMMON_STATUS:
      return WriteStatus(static_cast<uint8_t>(value));
    case VIRTIO_PCI_COMMON_Q_SELECT:
      queue_select_ = low16;
      return {};
    default:
      break;
  }
  QueueRegisters* const queue = Selected();
  if (queue == nullptr) return {};
  RingAddresses& addresses = queue->addresses;
  switch (field.offset) {
    case VIRTIO_PCI_COMMON_Q_SIZE:
      WriteQueueSize(low16);
      return {};
    case VIRTIO_PCI_COMMON_Q_MSIX:
      return {.kind = Kind::kQueueVector, .queue = queue_select_, .value = low16};
    case VIRTIO_PCI_COMMON_Q_ENABLE:
      return WriteQueueEnable(low16);
    case VIRTIO_PCI_COMMON_Q_RESET:
      return WriteQueueReset(low16);
    case VIRTIO_PCI_COMMON_Q_DESCLO:
    case VIRTIO_PCI_COMMON_Q_DESCHI:
      WriteQueueAddress(addresses.descriptors, value, field.offset % 8 * 8);
      return {};
    case VIRTIO_PCI_COMMON_Q_AVAILLO:
    case VIRTIO_PCI_COMMON_Q_AVAILHI:
      WriteQueueAddress(addresses.driver, value, field.offset % 8 * 8);
      return {};
    case VIRTIO_PCI_COMMON_Q_USEDLO:
    case VIRTIO_PCI_COMMON_Q_USEDHI:
      WriteQueueAddress(addresses.device, value, field.offset % 8 * 8);
      return {};
    default:
      return {};  // read-only
  }
}

CommonConfigAction CommonConfig::WriteStatus(uint8_t value) {
  if (value == 0) {
    resetting_ = true;
    return {.kind = Kind::kReset};
  }
  // 2.1.1: the driver must not clear a bit, and NEEDS_RESET is not its own.
  const uint8_t before = status_;
  const auto wanted = static_cast<uint8_t>(before | (value & kDriverBits));
  constexpr uint8_t kGranted = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
  constexpr auto kFree = static_cast<uint8_t>(kDriverBits & ~kGranted);
  status_ = static_cast<uint8_t>((wanted & kFree) | (before & kGranted));
  if ((wanted & VIRTIO_CONFIG_S_FEATURES_OK) != 0 && !features_ok()) {
    // 2.2, 6.1: a subset of what is offered, with VERSION_1 (there is no legacy interface here).
    const bool acceptable = (status_ & VIRTIO_CONFIG_S_DRIVER) != 0 &&
                            (driver_features_ & ~offered_) == 0 &&
                            (driver_features_ & FeatureBit(VIRTIO_F_VERSION_1)) != 0;
    return acceptable ? CommonConfigAction{.kind = Kind::kCheckFeatures} : CommonConfigAction{};
  }
  if ((wanted & VIRTIO_CONFIG_S_DRIVER_OK) != 0 && features_ok() && !driver_ok()) {
    status_ |= VIRTIO_CONFIG_S_DRIVER_OK;
    return {.kind = Kind::kDriverOk};
  }
  return {};
}

CommonConfigAction CommonConfig::WriteQueueEnable(uint16_t value) {
  QueueRegisters& queue = *Selected();
  // 4.1.4.3.2: the driver must not write 0. Rings have a format only once the features are settled.
  if (value != 1 || queue.enabled || queue.resetting || !features_ok() || !QueueIsValid(queue)) {
    return {};
  }
  queue.enabled = true;
  if (!driver_ok()) return {};
  return {.kind = Kind::kEnableQueue, .queue = queue_select_};
}

CommonConfigAction CommonConfig::WriteQueueReset(uint16_t value) {
  QueueRegisters& queue = *Selected();
  // 4.1.4.3.2: only with RING_RESET, only 1, only an enabled queue.
  if (value != 1 || !queue.enabled || queue.resetting || !features_ok() ||
      (driver_features_ & FeatureBit(kFeatureRingReset)) == 0) {
    return {};
  }
  queue.resetting = true;
  return {.kind = Kind::kResetQueue, .queue = queue_select_};
}

void CommonConfig::WriteQueueSize(uint16_t value) {
  QueueRegisters& queue = *Selected();
  // 4.1.4.3.2: power of two unless packed; queue_enable checks again, since the format may not be
  // settled yet.
  if (queue.enabled || value == 0 || value > queue.max_size) return;
  if (!packed() && !std::has_single_bit(value)) return;
  queue.size = value;
}

void CommonConfig::WriteQueueAddress(memory::GuestAddr& address, uint64_t value, uint32_t shift) {
  if (Selected()->enabled) return;
  const uint64_t kept = address.value() & ~(uint64_t{0xffff'ffff} << shift);
  address = memory::GuestAddr(kept | (value << shift));
}

bool CommonConfig::QueueIsValid(const QueueRegisters& queue) const {
  if (queue.size == 0 || queue.size > queue.max_size) return false;
  if (!packed() && !std::has_single_bit(queue.size)) return false;
  return RingAddressesAligned(queue.addresses, packed());
}

void CommonConfig::AcceptFeatures() {
  status_ |= VIRTIO_CONFIG_S_FEATURES_OK;
}

void CommonConfig::FinishReset() {
  status_ = 0;
  resetting_ = false;
  needs_reset_ = false;
  device_feature_select_ = 0;
  driver_feature_select_ = 0;
  driver_features_ = 0;
  config_vector_ = 0xffff;
  queue_select_ = 0;
  for (size_t i = 0; i < queues_.size(); ++i) FinishQueueReset(static_cast<uint16_t>(i));
}

void CommonConfig::FinishQueueReset(uint16_t queue) {
  const uint16_t size = std::min(info_.queue_sizes[queue], kMaxQueueSize);
  // 2.6.1.1: everything as after a reset of the device. A foreign backend's maximum need not be a
  // power of two, which packed rings may use in full.
  queues_[queue] = {.max_size = size, .size = std::bit_floor(size)};
}

QueueRegisters* CommonConfig::Selected() {
  return queue_select_ < queues_.size() ? &queues_[queue_select_] : nullptr;
}

const QueueRegisters* CommonConfig::Selected() const {
  return queue_select_ < queues_.size() ? &queues_[queue_select_] : nullptr;
}

bool RingAddressesAligned(const RingAddresses& addresses, bool packed) {
  // Split: 16, 2, 4 (2.7). Packed: 16, 4, 4 (2.8).
  return addresses.descriptors.value() % 16 == 0 &&
         addresses.driver.value() % (packed ? 4U : 2U) == 0 && addresses.device.value() % 4 == 0;
}

}  // namespace crosvm::virtio

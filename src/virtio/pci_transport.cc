#include "virtio/pci_transport.h"

#include <linux/virtio_pci.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "base/endian.h"
#include "virtio/pci_identity.h"

namespace crosvm::virtio {
namespace {

constexpr uint8_t kIsrQueue = 1;
constexpr uint8_t kIsrConfig = 2;
constexpr size_t kMaxQueues = kNotifySize / kNotifyMultiplier;
constexpr uint16_t kMaxVectors = 0x1000 / pci::kMsixEntrySize;

}  // namespace

PciTransport::PciTransport(const pci::InterruptContext& context, Options& options)
    : pci::Function(options.backend->name(), PciIdentity(options.backend->info().device_id)),
      vm_(context.vm),
      backend_(options.backend),
      memory_(std::move(options.memory)),
      shared_memory_(std::move(options.shared_memory)),
      failed_(std::move(options.failed)),
      common_(options.backend->info(), options.backend->info().features & options.feature_mask) {
}

Result<std::shared_ptr<PciTransport>> PciTransport::Create(const pci::InterruptContext& context,
                                                           Options options) {
  const DeviceInfo& info = options.backend->info();
  if (info.queue_sizes.size() > kMaxQueues || info.config_size > kDeviceConfigSize) {
    return Fail(ErrorKind::kInvalidArgument,
                "{}: {} queues and {} bytes of configuration are more than fit",
                options.backend->name(), info.queue_sizes.size(), info.config_size);
  }
  std::shared_ptr<PciTransport> self(new PciTransport(context, options));
  TRY_CONTEXT(self->Initialize(context, options), "{}", self->name());
  // The backend may outlive the transport (restart, removal), hence weak.
  const std::weak_ptr<PciTransport> weak = self;
  self->backend_->SetEvents({.config_changed =
                                 [weak] {
                                   if (const auto transport = weak.lock()) {
                                     transport->OnConfigChanged();
                                   }
                                 },
                             .failed =
                                 [weak](Error error) {
                                   if (const auto transport = weak.lock()) {
                                     transport->OnBackendFailed(std::move(error));
                                   }
                                 }});
  return self;
}

PciTransport::~PciTransport() {
  if (shared_memory_ != nullptr) shared_memory_->Place(std::nullopt);
  MutexLock lock(mutex_);
  for (size_t i = 0; i < io_events_.size(); ++i) SetIoEvent(static_cast<uint16_t>(i), std::nullopt);
}

Status PciTransport::Initialize(const pci::InterruptContext& context, Options& options) {
  const size_t queues = backend_->info().queue_sizes.size();
  for (size_t i = 0; i < queues; ++i) kicks_.push_back(TRY(sys::EventFd::Create()));
  {
    MutexLock lock(mutex_);
    seen_config_.resize(backend_->info().config_size);
    positions_.resize(queues);
    io_events_.resize(queues);
  }
  std::vector<uint8_t> isr_bits(queues, kIsrQueue);
  isr_bits.push_back(kIsrConfig);
  if (options.intx != nullptr) config().SetInterrupt(options.intx_irq, options.intx_pin);
  pci::Interrupts::Options interrupts{
      .name = name(),
      .vectors = static_cast<uint16_t>(std::min<size_t>(queues + 1, kMaxVectors)),
      .isr_bits = std::move(isr_bits),
      .intx = std::move(options.intx)};
  interrupts_ = TRY(pci::Interrupts::Create(context, std::move(interrupts)));
  TRY(config().AddBar(kTransportBar, {.kind = pci::BarKind::kMemory32, .size = kTransportBarSize}));
  TRY(AddCapabilities());
  return AddSharedMemory();
}

namespace {

// The capability without its first two bytes, which ConfigSpace makes.
template <typename T>
std::span<const uint8_t> Body(const T& capability) {
  // SAFETY: the kernel's capability structs are plain bytes and little-endian integers without
  // padding.
  return std::span(reinterpret_cast<const uint8_t*>(&capability), sizeof(T)).subspan(2);
}

virtio_pci_cap MakeCap(uint8_t length, uint8_t type, uint32_t offset, uint32_t size) {
  virtio_pci_cap cap{};
  cap.cap_len = length;
  cap.cfg_type = type;
  cap.bar = kTransportBar;
  cap.offset = offset;
  cap.length = size;
  return cap;
}
static_assert(std::endian::native == std::endian::little,
              "the kernel's __le32 are used as they are");

}  // namespace

Status PciTransport::AddCapabilities() {
  const struct {
    uint8_t type;
    uint32_t offset;
    uint32_t size;
  } plain[] = {{VIRTIO_PCI_CAP_COMMON_CFG, 0, kCommonConfigSize},
               {VIRTIO_PCI_CAP_ISR_CFG, kIsrOffset, 1},
               {VIRTIO_PCI_CAP_DEVICE_CFG, kDeviceConfigOffset, kDeviceConfigSize}};
  for (const auto& [type, offset, size] : plain) {
    const virtio_pci_cap cap = MakeCap(sizeof(virtio_pci_cap), type, offset, size);
    TRY(config().AddCapability(PCI_CAP_ID_VNDR, Body(cap)));
  }
  virtio_pci_notify_cap notify{};
  notify.cap = MakeCap(sizeof(notify), VIRTIO_PCI_CAP_NOTIFY_CFG, kNotifyOffset, kNotifySize);
  notify.notify_off_multiplier = kNotifyMultiplier;
  TRY(config().AddCapability(PCI_CAP_ID_VNDR, Body(notify)));

  virtio_pci_cfg_cap window{};
  window.cap = MakeCap(sizeof(window), VIRTIO_PCI_CAP_PCI_CFG, 0, 0);
  // 4.1.4.9.1: the driver writes bar, offset, length and the data.
  virtio_pci_cfg_cap writable{};
  writable.cap.bar = 0xff;
  writable.cap.offset = 0xffff'ffff;
  writable.cap.length = 0xffff'ffff;
  std::memset(writable.pci_cfg_data, 0xff, sizeof(writable.pci_cfg_data));
  window_capability_ = TRY(config().AddCapability(PCI_CAP_ID_VNDR, Body(window), Body(writable)));
  return AddMsix(interrupts_, kTransportBar, kMsixTableOffset, kMsixPendingOffset);
}

Status PciTransport::AddSharedMemory() {
  if (shared_memory_ == nullptr) return {};
  // The sum cannot overflow: the VMM has reserved that much address space.
  uint64_t offset = 0;
  for (const SharedMemoryRegion& region : shared_memory_->regions()) {
    virtio_pci_cap64 cap{};
    cap.cap = MakeCap(sizeof(cap), VIRTIO_PCI_CAP_SHARED_MEMORY_CFG, static_cast<uint32_t>(offset),
                      static_cast<uint32_t>(region.size));
    cap.cap.bar = kSharedMemoryBar;
    cap.cap.id = region.id;
    cap.offset_hi = static_cast<uint32_t>(offset >> 32);
    cap.length_hi = static_cast<uint32_t>(region.size >> 32);
    TRY(config().AddCapability(PCI_CAP_ID_VNDR, Body(cap)));
    offset += region.size;
  }
  return config().AddBar(
      kSharedMemoryBar,
      {.kind = pci::BarKind::kMemory64, .size = std::bit_ceil(offset), .prefetchable = true});
}

std::shared_ptr<bus::Device> PciTransport::BarDevice(uint8_t bar) {
  if (bar != kTransportBar) return nullptr;
  return std::shared_ptr<bus::Device>(shared_from_this(), &registers_);
}

void PciTransport::OnBarMoved(uint8_t bar, std::optional<uint64_t> base) {
  if (bar == kTransportBar) {
    MutexLock lock(mutex_);
    bar_base_ = base;
    UpdateIoEvents();
  } else if (bar == kSharedMemoryBar && shared_memory_ != nullptr) {
    shared_memory_->Place(base);
  }
}

PciTransport::Window PciTransport::ConfigWindow() const {
  const uint32_t cap = window_capability_;
  const uint32_t offset = config().Load32(cap + VIRTIO_PCI_CAP_OFFSET);
  const uint32_t length = config().Load32(cap + VIRTIO_PCI_CAP_LENGTH);
  // 4.1.4.9.1: 1, 2 or 4 bytes, aligned to their number, within a BAR.
  if (config().Load8(cap + VIRTIO_PCI_CAP_BAR) != kTransportBar ||
      (length != 1 && length != 2 && length != 4) || offset % length != 0 ||
      offset >= kTransportBarSize) {
    return {};
  }
  return {.offset = offset, .length = length};
}

void PciTransport::OnConfigRead(uint32_t offset, std::span<uint8_t> data) {
  const uint64_t begin = uint64_t{window_capability_} + sizeof(virtio_pci_cap);
  const uint64_t end = begin + sizeof(virtio_pci_cfg_cap::pci_cfg_data);
  if (offset >= end || uint64_t{offset} + data.size() <= begin) return;
  const Window window = ConfigWindow();
  if (window.length == 0) return;
  std::array<uint8_t, 4> value{};
  ReadBar(window.offset, std::span(value).first(window.length));
  for (size_t i = 0; i < data.size(); ++i) {
    const uint64_t at = uint64_t{offset} + i;
    if (at >= begin && at < begin + window.length) data[i] = value[at - begin];
  }
}

void PciTransport::OnConfigWritten(uint32_t offset, std::span<const uint8_t> data) {
  const uint64_t begin = uint64_t{window_capability_} + sizeof(virtio_pci_cap);
  const uint64_t end = begin + sizeof(virtio_pci_cfg_cap::pci_cfg_data);
  if (offset >= end || uint64_t{offset} + data.size() <= begin) return;
  const Window window = ConfigWindow();
  if (window.length == 0) return;
  const Le32 value = config().Load32(static_cast<uint32_t>(begin));
  std::array<uint8_t, 4> bytes;
  std::memcpy(bytes.data(), &value, sizeof(value));
  WriteBar(window.offset, std::span(bytes).first(window.length));
}

void PciTransport::ReadBar(uint64_t offset, std::span<uint8_t> data) {
  std::fill(data.begin(), data.end(), uint8_t{0});
  if (offset >= kTransportBarSize) return;
  const auto within = static_cast<uint32_t>(offset & 0xfff);
  switch (offset & ~uint64_t{0xfff}) {
    case 0:
      ReadCommon(within, data);
      break;
    case kIsrOffset:
      if (within == 0) data[0] = interrupts_->TakeIsr();
      break;
    case kDeviceConfigOffset:
      ReadDeviceConfig(within, data);
      break;
    case kMsixTableOffset:
      interrupts_->ReadTable(within, data);
      break;
    case kMsixPendingOffset:
      interrupts_->ReadPending(within, data);
      break;
    default:
      break;
  }
}

void PciTransport::WriteBar(uint64_t offset, std::span<const uint8_t> data) {
  if (offset >= kTransportBarSize) return;
  const auto within = static_cast<uint32_t>(offset & 0xfff);
  switch (offset & ~uint64_t{0xfff}) {
    case 0:
      WriteCommon(within, data);
      break;
    case kDeviceConfigOffset:
      WriteDeviceConfig(within, data);
      break;
    case kNotifyOffset:
      // Only when the ioeventfd is not there (yet). No lock: the doorbells never change.
      if (within / kNotifyMultiplier < kicks_.size()) kicks_[within / kNotifyMultiplier].Signal();
      break;
    case kMsixTableOffset:
      interrupts_->WriteTable(within, data);
      break;
    default:
      break;
  }
}

void PciTransport::ReadCommon(uint32_t offset, std::span<uint8_t> data) {
  MutexLock lock(mutex_);
  // ORDERING: seq_cst; a driver that was interrupted for either reads it afterwards.
  common_.SetOverlay(needs_reset_.load(), generation_.load());
  common_.Read(offset, data);
}

void PciTransport::WriteCommon(uint32_t offset, std::span<const uint8_t> data) {
  MutexLock lock(mutex_);
  Perform(common_.Write(offset, data));
}

void PciTransport::ReadDeviceConfig(uint32_t offset, std::span<uint8_t> data) {
  const uint32_t size = backend_->info().config_size;
  if (offset >= size) return;
  const size_t length = std::min<size_t>(data.size(), size - offset);
  MutexLock lock(mutex_);
  const std::span<uint8_t> seen = std::span(seen_config_).subspan(offset, length);
  if (!backend_gone_.load()) {
    const Status status = backend_->ReadConfig(offset, data.first(length));
    if (status.has_value()) {
      std::copy_n(data.begin(), length, seen.begin());
      return;
    }
    OnBackendError(status.error().Clone());
  }
  // A driver may read while a successor of the backend is on its way.
  std::copy(seen.begin(), seen.end(), data.begin());
}

void PciTransport::WriteDeviceConfig(uint32_t offset, std::span<const uint8_t> data) {
  const uint32_t size = backend_->info().config_size;
  if (offset >= size || data.size() > size - offset || backend_gone_.load()) return;
  MutexLock lock(mutex_);
  const Status status = backend_->WriteConfig(offset, data);
  // A device without writable fields may refuse; only one that is gone is an event.
  if (!status.has_value() && MeansLost(status.error())) OnBackendError(status.error().Clone());
}

bool PciTransport::driver_ok() const {
  return running_.load();
}

uint64_t PciTransport::driver_features() const {
  MutexLock lock(mutex_);
  return common_.driver_features();
}

}  // namespace crosvm::virtio

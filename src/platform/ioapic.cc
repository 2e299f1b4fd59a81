#include "platform/ioapic.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace crosvm::platform {
namespace {

constexpr uint64_t kSelectOffset = 0x00;
constexpr uint64_t kWindowOffset = 0x10;
constexpr uint64_t kEoiOffset = 0x40;

constexpr uint8_t kIdIndex = 0x00;
constexpr uint8_t kVersionIndex = 0x01;
constexpr uint8_t kArbitrationIndex = 0x02;
constexpr uint8_t kTableIndex = 0x10;

constexpr uint32_t kVersion = 0x20;  // the one that has the EOI register
constexpr uint32_t kIdMask = 0x0f00'0000;

// Redirection entry.
constexpr uint64_t kVectorMask = 0xff;
constexpr int kDeliveryModeShift = 8;
constexpr uint64_t kLogicalDestination = uint64_t{1} << 11;
constexpr uint64_t kDeliveryStatus = uint64_t{1} << 12;
constexpr uint64_t kRemoteIrr = uint64_t{1} << 14;
constexpr uint64_t kLevel = uint64_t{1} << 15;
constexpr uint64_t kMasked = uint64_t{1} << 16;
constexpr uint64_t kReadOnly = kDeliveryStatus | kRemoteIrr;
constexpr uint64_t kWritable = uint64_t{0xff} << 56 | 0x1'ffff;
constexpr int kDestinationShift = 56;

// MSI (Intel SDM volume 3, 11.11).
constexpr uint64_t kMsiAddress = 0xfee0'0000;
constexpr int kMsiDestinationShift = 12;
constexpr uint64_t kMsiLogical = 1 << 2;
constexpr uint32_t kMsiAssert = 1 << 14;
constexpr uint32_t kMsiLevel = 1 << 15;

}  // namespace

Result<std::unique_ptr<KvmIoapicOutput>> KvmIoapicOutput::Create(hypervisor::Vm& vm,
                                                                 hypervisor::IrqRouter& router,
                                                                 uint32_t pins) {
  for (uint32_t pin = 0; pin < pins; ++pin) {
    const hypervisor::Gsi gsi = TRY_CONTEXT(router.AllocateMsi(), "reserving IOAPIC pin {}", pin);
    if (gsi.value() != pin) {
      return Fail(ErrorKind::kInvalidArgument, "IOAPIC pin {} would be GSI {}", pin, gsi.value());
    }
  }
  return std::unique_ptr<KvmIoapicOutput>(new KvmIoapicOutput(vm, router));
}

void KvmIoapicOutput::Route(uint32_t pin, const hypervisor::MsiMessage& message) {
  if (const Status set = router_.SetMsi(hypervisor::Gsi(pin), message); !set) {
    LOG_WARN_EVERY(std::chrono::seconds(10), "routing IOAPIC pin {}: {}", pin,
                   set.error().ToString());
  }
}

void KvmIoapicOutput::Deliver(uint32_t pin, const hypervisor::MsiMessage& message) {
  if (const Status sent = vm_.SignalMsi(message); !sent) {
    LOG_WARN_EVERY(std::chrono::seconds(10), "interrupt of IOAPIC pin {}: {}", pin,
                   sent.error().ToString());
  }
}

Ioapic::Ioapic(uint32_t pins, std::unique_ptr<IoapicOutput> output)
    : pins_(pins), output_(std::move(output)), table_(pins, Pin{.entry = kMasked}) {
  CHECK(pins > 0 && pins <= kMaxPins);
}

hypervisor::MsiMessage Ioapic::MessageOf(uint64_t entry) {
  hypervisor::MsiMessage message;
  message.address = kMsiAddress | (entry >> kDestinationShift) << kMsiDestinationShift;
  if ((entry & kLogicalDestination) != 0) message.address |= kMsiLogical;
  message.data = static_cast<uint32_t>(entry & (kVectorMask | uint64_t{7} << kDeliveryModeShift));
  if ((entry & kLevel) != 0) message.data |= kMsiLevel | kMsiAssert;
  return message;
}

void Ioapic::SetPin(uint32_t pin, bool asserted) {
  if (pin >= pins_) return;
  const MutexLock lock(mutex_);
  Pin& state = table_[pin];
  const bool before = std::exchange(state.asserted, asserted);
  if ((state.entry & kLevel) != 0) {
    ServiceLevel(pin);
  } else if (asserted && !before && (state.entry & kMasked) == 0) {
    output_->Deliver(pin, MessageOf(state.entry));
  }
}

void Ioapic::ServiceLevel(uint32_t index) {
  Pin& pin = table_[index];
  // Between the interrupt and its EOI the remote IRR holds back the next.
  if (!pin.asserted || (pin.entry & kLevel) == 0 || (pin.entry & (kMasked | kRemoteIrr)) != 0)
    return;
  pin.entry |= kRemoteIrr;
  output_->Deliver(index, MessageOf(pin.entry));
}

void Ioapic::EndOfInterrupt(uint8_t vector) {
  const MutexLock lock(mutex_);
  End(vector);
}

void Ioapic::End(uint8_t vector) {
  for (uint32_t index = 0; index < pins_; ++index) {
    Pin& pin = table_[index];
    if ((pin.entry & kVectorMask) != vector || (pin.entry & kLevel) == 0) continue;
    pin.entry &= ~kRemoteIrr;
    ServiceLevel(index);
  }
}

uint32_t Ioapic::ReadIndexed() {
  switch (index_) {
    case kIdIndex:
    case kArbitrationIndex:
      return id_;
    case kVersionIndex:
      return (pins_ - 1) << 16 | kVersion;
    default:
      break;
  }
  if (index_ < kTableIndex) return 0;
  const uint32_t pin = (index_ - kTableIndex) / 2u;
  if (pin >= pins_) return 0;
  const bool high = index_ % 2 != 0;
  return static_cast<uint32_t>(high ? table_[pin].entry >> 32 : table_[pin].entry);
}

void Ioapic::WriteIndexed(uint32_t value) {
  if (index_ == kIdIndex) id_ = value & kIdMask;
  if (index_ < kTableIndex) return;
  const uint32_t pin = (index_ - kTableIndex) / 2u;
  if (pin < pins_) WriteEntry(pin, index_ % 2 != 0, value);
}

void Ioapic::WriteEntry(uint32_t index, bool high, uint32_t value) {
  Pin& pin = table_[index];
  const uint64_t before = pin.entry;
  uint64_t entry = high ? uint64_t{value} << 32 | (before & 0xffff'ffff)
                        : (before & ~uint64_t{0xffff'ffff}) | value;
  entry = (entry & kWritable & ~kReadOnly) | (before & kReadOnly);
  // Linux gets rid of a stuck remote IRR by switching to edge and back.
  if ((entry & kLevel) == 0) entry &= ~kRemoteIrr;
  pin.entry = entry;
  const hypervisor::MsiMessage message = MessageOf(entry);
  const hypervisor::MsiMessage old = MessageOf(before);
  if (message.address != old.address || message.data != old.data) output_->Route(index, message);
  ServiceLevel(index);
}

void Ioapic::Read(uint64_t offset, std::span<uint8_t> data) {
  std::ranges::fill(data, uint8_t{0});
  const MutexLock lock(mutex_);
  if (offset == kSelectOffset && !data.empty()) data[0] = index_;
  if (offset != kWindowOffset || data.size() != sizeof(uint32_t)) return;
  const uint32_t value = ReadIndexed();
  std::memcpy(data.data(), &value, sizeof(value));
}

void Ioapic::Write(uint64_t offset, std::span<const uint8_t> data) {
  if (data.empty()) return;
  const MutexLock lock(mutex_);
  if (offset == kSelectOffset) {
    index_ = data[0];
  } else if (offset == kEoiOffset) {
    End(data[0]);
  } else if (offset == kWindowOffset && data.size() == sizeof(uint32_t)) {
    uint32_t value = 0;
    std::memcpy(&value, data.data(), sizeof(value));
    WriteIndexed(value);
  }
}

}  // namespace crosvm::platform

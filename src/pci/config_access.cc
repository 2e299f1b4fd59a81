#include "pci/config_access.h"

#include <algorithm>

namespace crosvm::pci {
namespace {

// CONFIG_ADDRESS: PCI 3.0, 3.2.2.3.2.
constexpr uint32_t kEnable = 0x8000'0000;
constexpr uint32_t kAddressBits = kEnable | 0x00ff'fffc;
constexpr uint64_t kDataOffset = 4;

// A single access never spans two functions: what is beyond the 4 KiB is not ours to answer.
constexpr uint32_t kFunctionBytes = 4096;

}  // namespace

Mechanism1::Target Mechanism1::Decode(uint64_t port_offset) {
  MutexLock lock(mutex_);
  return {.enabled = (config_address_ & kEnable) != 0,
          .address = Address::FromBits(static_cast<uint16_t>(config_address_ >> 8)),
          .offset = (config_address_ & 0xfc) + static_cast<uint32_t>(port_offset - kDataOffset)};
}

void Mechanism1::Read(uint64_t offset, std::span<uint8_t> data) {
  std::fill(data.begin(), data.end(), uint8_t{0xff});
  if (offset >= kDataOffset) {
    const Target target = Decode(offset);
    if (target.enabled) root_->ReadConfig(target.address, target.offset, data);
    return;
  }
  if (offset + data.size() > kDataOffset) return;
  MutexLock lock(mutex_);
  for (size_t i = 0; i < data.size(); ++i) {
    data[i] = static_cast<uint8_t>(config_address_ >> (8 * (offset + i)));
  }
}

void Mechanism1::Write(uint64_t offset, std::span<const uint8_t> data) {
  if (offset >= kDataOffset) {
    const Target target = Decode(offset);
    if (target.enabled) root_->WriteConfig(target.address, target.offset, data);
    return;
  }
  if (offset + data.size() > kDataOffset) return;
  MutexLock lock(mutex_);
  for (size_t i = 0; i < data.size(); ++i) {
    const auto shift = static_cast<uint32_t>(8 * (offset + i));
    config_address_ = (config_address_ & ~(0xffU << shift)) | (uint32_t{data[i]} << shift);
  }
  config_address_ &= kAddressBits;
}

void Ecam::Read(uint64_t offset, std::span<uint8_t> data) {
  const auto within = static_cast<uint32_t>(offset % kFunctionBytes);
  if (offset >= kEcamBytesPerBus || within + data.size() > kFunctionBytes) {
    std::fill(data.begin(), data.end(), uint8_t{0xff});
    return;
  }
  root_->ReadConfig(Address::FromBits(static_cast<uint16_t>(offset / kFunctionBytes)), within,
                    data);
}

void Ecam::Write(uint64_t offset, std::span<const uint8_t> data) {
  const auto within = static_cast<uint32_t>(offset % kFunctionBytes);
  if (offset >= kEcamBytesPerBus || within + data.size() > kFunctionBytes) return;
  root_->WriteConfig(Address::FromBits(static_cast<uint16_t>(offset / kFunctionBytes)), within,
                     data);
}

}  // namespace crosvm::pci

#include "pci/function.h"

#include <array>
#include <cstring>

#include "base/check.h"
#include "base/endian.h"

namespace crosvm::pci {
namespace {

struct MsixCapability {
  Le16 control;
  Le32 table;
  Le32 pending;
};
static_assert(sizeof(MsixCapability) == PCI_CAP_MSIX_SIZEOF - 2);

}  // namespace

Function::Function(std::string name, const Identity& identity)
    : name_(std::move(name)), config_(identity) {
}
Function::~Function() = default;

void Function::ReadConfig(uint32_t offset, std::span<uint8_t> data) {
  config_.Read(offset, data);
  if (interrupts_ != nullptr && offset <= PCI_STATUS && PCI_STATUS - offset < data.size() &&
      interrupts_->intx_pending()) {
    uint8_t& status = data[PCI_STATUS - offset];
    status = static_cast<uint8_t>(status | PCI_STATUS_INTERRUPT);
  }
  OnConfigRead(offset, data);
}

BarChanges Function::WriteConfig(uint32_t offset, std::span<const uint8_t> data) {
  const BarChanges changes = config_.Write(offset, data);
  if (interrupts_ != nullptr) {
    interrupts_->SetIntxDisabled((config_.command() & PCI_COMMAND_INTX_DISABLE) != 0);
    const uint16_t control = config_.Load16(uint32_t{msix_capability_} + PCI_MSIX_FLAGS);
    interrupts_->SetMsixControl((control & PCI_MSIX_FLAGS_ENABLE) != 0,
                                (control & PCI_MSIX_FLAGS_MASKALL) != 0);
  }
  OnConfigWritten(offset, data);
  return changes;
}

Status Function::AddMsix(std::shared_ptr<Interrupts> interrupts, uint8_t bar, uint32_t table_offset,
                         uint32_t pending_offset) {
  CHECK(interrupts_ == nullptr && table_offset % 8 == 0 && pending_offset % 8 == 0);
  const MsixCapability capability = {
      .control = static_cast<uint16_t>(interrupts->vectors() - 1),
      .table = table_offset | bar,
      .pending = pending_offset | bar,
  };
  const MsixCapability writable = {
      .control = PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL,
      .table = 0U,
      .pending = 0U,
  };
  std::array<uint8_t, sizeof(MsixCapability)> body;
  std::array<uint8_t, sizeof(MsixCapability)> mask;
  std::memcpy(body.data(), &capability, sizeof(capability));
  std::memcpy(mask.data(), &writable, sizeof(writable));
  msix_capability_ = TRY(config_.AddCapability(PCI_CAP_ID_MSIX, body, mask));
  interrupts_ = std::move(interrupts);
  return {};
}

std::shared_ptr<bus::Device> Function::BarDevice(uint8_t /*bar*/) {
  return nullptr;
}
void Function::OnBarMoved(uint8_t /*bar*/, std::optional<uint64_t> /*base*/) {
}
void Function::OnConfigRead(uint32_t /*offset*/, std::span<uint8_t> /*data*/) {
}
void Function::OnConfigWritten(uint32_t /*offset*/, std::span<const uint8_t> /*data*/) {
}

}  // namespace crosvm::pci

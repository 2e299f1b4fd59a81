#include "resources/pci_slot_allocator.h"

#include <utility>

namespace crosvm::resources {
namespace {
constexpr uint8_t kLastDevice = 31;
constexpr uint8_t kLastFunction = 7;
}  // namespace

std::string PciSlot::ToString() const {
  return fmt::format("{:02x}:{:02x}.{}", bus, device, function);
}

Status PciSlotAllocator::AddBus(uint8_t bus, uint8_t first_device, uint8_t last_device) {
  if (first_device > last_device || last_device > kLastDevice) {
    return Fail(ErrorKind::kInvalidArgument,
                "PCI bus {:02x}: devices {}-{} are not a range of 0-31", bus, first_device,
                last_device);
  }
  if (!buses_.try_emplace(bus, Bus{first_device, last_device}).second) {
    return Fail(ErrorKind::kAlreadyExists, "PCI bus {:02x} exists", bus);
  }
  return {};
}

Status PciSlotAllocator::RemoveBus(uint8_t bus) {
  TRY(FindBus(bus));
  const auto first = taken_.lower_bound(PciSlot{.bus = bus});
  if (first != taken_.end() && first->first.bus == bus) {
    return Fail(ErrorKind::kBusy, "PCI bus {:02x} still holds {} ({})", bus, first->second,
                first->first.ToString());
  }
  buses_.erase(bus);
  return {};
}

Result<PciSlotAllocator::Bus> PciSlotAllocator::FindBus(uint8_t bus) const {
  const auto found = buses_.find(bus);
  if (found == buses_.end()) return Fail(ErrorKind::kNotFound, "there is no PCI bus {:02x}", bus);
  return found->second;
}

Result<PciSlot> PciSlotAllocator::Allocate(uint8_t bus, std::string tag) {
  const Bus limits = TRY(FindBus(bus));
  for (unsigned device = limits.first_device; device <= limits.last_device; ++device) {
    const PciSlot slot{.bus = bus, .device = static_cast<uint8_t>(device)};
    const auto next = taken_.lower_bound(slot);
    if (next != taken_.end() && next->first.bus == bus && next->first.device == device) continue;
    taken_.emplace_hint(next, slot, std::move(tag));
    return slot;
  }
  return Fail(ErrorKind::kBusy, "PCI bus {:02x} has no free slot for {}", bus, tag);
}

Status PciSlotAllocator::AllocateAt(PciSlot slot, std::string tag) {
  const Bus limits = TRY(FindBus(slot.bus));
  if (slot.device < limits.first_device || slot.device > limits.last_device ||
      slot.function > kLastFunction) {
    return Fail(ErrorKind::kInvalidArgument, "{} is not a PCI address that {} can have",
                slot.ToString(), tag);
  }
  const auto [owner, inserted] = taken_.try_emplace(slot, tag);
  if (!inserted) {
    return Fail(ErrorKind::kBusy, "PCI address {} for {} is taken by {}", slot.ToString(), tag,
                owner->second);
  }
  return {};
}

Status PciSlotAllocator::Release(PciSlot slot) {
  if (taken_.erase(slot) == 0) {
    return Fail(ErrorKind::kNotFound, "PCI address {} was not taken", slot.ToString());
  }
  return {};
}

const std::string* PciSlotAllocator::Find(PciSlot slot) const {
  const auto found = taken_.find(slot);
  return found == taken_.end() ? nullptr : &found->second;
}

}  // namespace crosvm::resources

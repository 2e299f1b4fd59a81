#include "pci/root.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"

namespace crosvm::pci {
namespace {

// Holds the range of a BAR that has no registers in user space.
class EmptyRange final : public bus::Device {
 public:
  explicit EmptyRange(std::string name) : name_(std::move(name)) {}
  std::string_view name() const override { return name_; }
  void Read(uint64_t /*offset*/, std::span<uint8_t> data) override {
    std::fill(data.begin(), data.end(), uint8_t{0xff});
  }
  void Write(uint64_t /*offset*/, std::span<const uint8_t> /*data*/) override {}

 private:
  const std::string name_;
};

bool Contains(const resources::AddressRange& window, uint64_t base, uint64_t size) {
  return window.Contains(base) && size - 1 <= window.last() - base;
}

}  // namespace

Root::Root(bus::Bus& mmio, bus::Bus& io, Windows windows)
    : mmio_(mmio), io_(io), windows_(std::move(windows)) {
}

Root::~Root() {
  for (const auto& [address, function] : functions()) (void)Remove(address);
}

Status Root::Add(Address address, std::shared_ptr<Function> function) {
  if (address.bus() != 0) {
    return Fail(ErrorKind::kInvalidArgument, "PCI {}: only bus 0 exists", address.ToString());
  }
  auto slot = std::make_shared<Slot>();
  slot->function = std::move(function);
  BarChanges decoded;
  for (uint8_t bar = 0; bar < kBarCount; ++bar) {
    const std::optional<uint64_t> base = slot->function->config().Decoded(bar);
    if (base) decoded.Push({.bar = bar, .base = base});
  }
  MutexLock lock(slot->mutex);
  {
    MutexLock slots_lock(slots_mutex_);
    const auto [at, inserted] = slots_.emplace(address, slot);
    if (!inserted) {
      return Fail(ErrorKind::kAlreadyExists, "PCI {} is taken by {}", address.ToString(),
                  at->second->function->name());
    }
  }
  Apply(*slot, decoded);
  return {};
}

Result<std::shared_ptr<Function>> Root::Remove(Address address) {
  std::shared_ptr<Slot> slot;
  {
    MutexLock slots_lock(slots_mutex_);
    const auto at = slots_.find(address);
    if (at == slots_.end()) {
      return Fail(ErrorKind::kNotFound, "nothing is at PCI {}", address.ToString());
    }
    slot = at->second;
    slots_.erase(at);
  }
  MutexLock lock(slot->mutex);
  slot->removed = true;
  MutexLock map_lock(map_mutex_);
  for (uint8_t bar = 0; bar < kBarCount; ++bar) {
    slot->placements[bar].wanted.reset();
    Unmap(*slot, bar);
  }
  RetryUnmapped();
  return slot->function;
}

std::vector<std::pair<Address, std::shared_ptr<Function>>> Root::functions() const {
  MutexLock lock(slots_mutex_);
  std::vector<std::pair<Address, std::shared_ptr<Function>>> all;
  all.reserve(slots_.size());
  for (const auto& [address, slot] : slots_) all.emplace_back(address, slot->function);
  return all;
}

void Root::ReadConfig(Address address, uint32_t offset, std::span<uint8_t> data) {
  const std::shared_ptr<Slot> slot = Find(address);
  if (slot == nullptr) {
    std::fill(data.begin(), data.end(), uint8_t{0xff});
    return;
  }
  {
    MutexLock lock(slot->mutex);
    slot->function->ReadConfig(offset, data);
  }
  if (offset <= PCI_HEADER_TYPE && PCI_HEADER_TYPE - offset < data.size() &&
      IsMultiFunction(address)) {
    data[PCI_HEADER_TYPE - offset] |= 0x80;
  }
}

void Root::WriteConfig(Address address, uint32_t offset, std::span<const uint8_t> data) {
  const std::shared_ptr<Slot> slot = Find(address);
  if (slot == nullptr) return;
  MutexLock lock(slot->mutex);
  if (slot->removed) return;
  const BarChanges changes = slot->function->WriteConfig(offset, data);
  if (!changes.empty()) Apply(*slot, changes);
}

std::shared_ptr<Root::Slot> Root::Find(Address address) const {
  MutexLock lock(slots_mutex_);
  const auto at = slots_.find(address);
  return at == slots_.end() ? nullptr : at->second;
}

bool Root::IsMultiFunction(Address address) const {
  MutexLock lock(slots_mutex_);
  const auto first = static_cast<uint16_t>(address.bits() & 0xfff8);
  const auto above = slots_.upper_bound(Address::FromBits(first));
  return above != slots_.end() && above->first.bits() <= (first | 7U);
}

void Root::Apply(Slot& slot, const BarChanges& changes) {
  MutexLock lock(map_mutex_);
  for (const BarChange& change : changes) {
    Unmap(slot, change.bar);
    slot.placements[change.bar].wanted = change.base;
  }
  for (const BarChange& change : changes) TryMap(slot, change.bar);
  RetryUnmapped();
}

void Root::Unmap(Slot& slot, uint8_t bar) {
  Placement& placement = slot.placements[bar];
  if (!placement.mapped) return;
  // The hook first: nothing may reach the device by a shortcut once its range is free for another.
  slot.function->OnBarMoved(bar, std::nullopt);
  const BarSpec& spec = *slot.function->config().bar(bar);
  const Status status = BusOf(spec).Remove(placement.base);
  CHECK(status.has_value(), "BAR {} of {}", bar, slot.function->name());
  placement.mapped = false;
}

void Root::TryMap(Slot& slot, uint8_t bar) {
  Placement& placement = slot.placements[bar];
  if (placement.mapped || !placement.wanted) return;
  const uint64_t base = *placement.wanted;
  const BarSpec& spec = *slot.function->config().bar(bar);
  if (!InWindow(spec, base)) {
    LOG_DEBUG("{}: BAR {} at {:#x} is outside the bridge's windows", slot.function->name(), bar,
              base);
    return;
  }
  std::shared_ptr<bus::Device> device = slot.function->BarDevice(bar);
  if (device == nullptr) device = std::make_shared<EmptyRange>(slot.function->name());
  const Status status = BusOf(spec).Insert(std::move(device), base, spec.size);
  if (!status.has_value()) {
    LOG_DEBUG("{}: BAR {}: {}", slot.function->name(), bar, status.error().ToString());
    return;
  }
  placement.base = base;
  placement.mapped = true;
  slot.function->OnBarMoved(bar, base);
}

void Root::RetryUnmapped() {
  std::vector<std::shared_ptr<Slot>> slots;
  {
    MutexLock lock(slots_mutex_);
    for (const auto& [address, slot] : slots_) slots.push_back(slot);
  }
  for (const std::shared_ptr<Slot>& slot : slots) {
    for (uint8_t bar = 0; bar < kBarCount; ++bar) TryMap(*slot, bar);
  }
}

bool Root::InWindow(const BarSpec& spec, uint64_t base) const {
  const auto& windows = spec.kind == BarKind::kIo ? windows_.io : windows_.memory;
  return std::ranges::any_of(windows, [&](const resources::AddressRange& window) {
    return Contains(window, base, spec.size);
  });
}

bus::Bus& Root::BusOf(const BarSpec& spec) const {
  return spec.kind == BarKind::kIo ? io_ : mmio_;
}

Status AssignBars(Function& function, resources::AddressAllocator* low,
                  resources::AddressAllocator* high, resources::AddressAllocator* io,
                  const std::string& tag) {
  for (uint8_t bar = 0; bar < kBarCount; ++bar) {
    const BarSpec* const spec = function.config().bar(bar);
    if (spec == nullptr) continue;
    resources::AddressAllocator* const allocator = spec->kind == BarKind::kIo         ? io
                                                   : spec->kind == BarKind::kMemory64 ? high
                                                                                      : low;
    if (allocator == nullptr) {
      return Fail(ErrorKind::kUnsupported, "{}: BAR {} has no address space here", function.name(),
                  bar);
    }
    const resources::AddressRange range = TRY_CONTEXT(
        allocator->Allocate(spec->size, spec->size, tag), "{}: BAR {}", function.name(), bar);
    TRY(function.config().SetBarAddress(bar, range.start));
  }
  return {};
}

void ReleaseBars(const std::string& tag, resources::AddressAllocator& allocator) {
  std::vector<uint64_t> starts;
  for (const auto& [start, allocation] : allocator.allocations()) {
    if (allocation.tag == tag) starts.push_back(start);
  }
  for (const uint64_t start : starts) (void)allocator.Release(start);
}

std::shared_ptr<Function> MakeHostBridge() {
  return std::make_shared<Function>("PCI host bridge", Identity{.vendor = 0x8086,
                                                                .device = 0x29c0,
                                                                .subsystem_vendor = 0x1af4,
                                                                .subsystem = 0x1100,
                                                                .base_class = 0x06,
                                                                .sub_class = 0x00});
}

}  // namespace crosvm::pci

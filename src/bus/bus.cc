// The address map. Readers are vCPU threads and only hold the lock while they look up; the device
// is called without it, so a device may change the map (a BAR move) from inside its own access.
#include "bus/bus.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "base/checked_math.h"

namespace crosvm::bus {

Bus::Bus(std::string name) : name_(std::move(name)) {
}

Status Bus::Insert(std::shared_ptr<Device> device, uint64_t base, uint64_t length) {
  CHECK(device != nullptr);
  if (length == 0 || !CheckedAdd(base, length - 1)) {
    return Fail(ErrorKind::kInvalidArgument, "{}: {} cannot be at {:#x} with a length of {:#x}",
                name_, device->name(), base, length);
  }
  const uint64_t last = base + (length - 1);
  const MutexLock lock(mutex_);
  // The only candidates are the neighbours: the mapping at or above `base`, and the one below it.
  const auto above = mappings_.lower_bound(base);
  auto clash = mappings_.end();
  if (above != mappings_.end() && above->first <= last) clash = above;
  if (above != mappings_.begin()) {
    const auto below = std::prev(above);
    if (base - below->first < below->second.length) clash = below;
  }
  if (clash != mappings_.end()) {
    return Fail(ErrorKind::kAlreadyExists, "{}: {} at {:#x}-{:#x} overlaps {} at {:#x}-{:#x}",
                name_, device->name(), base, last, clash->second.device->name(), clash->first,
                clash->first + (clash->second.length - 1));
  }
  mappings_.emplace_hint(above, base, Mapping{.length = length, .device = std::move(device)});
  return {};
}

Status Bus::Remove(uint64_t base) {
  // Outlives the lock: a device's destructor may use the bus.
  std::shared_ptr<Device> removed;
  const MutexLock lock(mutex_);
  const auto found = mappings_.find(base);
  if (found == mappings_.end()) {
    return Fail(ErrorKind::kNotFound, "{}: nothing is mapped at {:#x}", name_, base);
  }
  removed = std::move(found->second.device);
  mappings_.erase(found);
  return {};
}

std::shared_ptr<Device> Bus::Find(uint64_t address, uint64_t size, uint64_t& offset) const {
  const MutexLock lock(mutex_);
  auto found = mappings_.upper_bound(address);
  if (found == mappings_.begin()) return nullptr;
  --found;
  offset = address - found->first;
  if (!RangeFits(offset, size, found->second.length)) return nullptr;
  return found->second.device;
}

bool Bus::Read(uint64_t address, std::span<uint8_t> data) const {
  if (data.empty()) return false;
  uint64_t offset = 0;
  const std::shared_ptr<Device> device = Find(address, data.size(), offset);
  if (device == nullptr) {
    std::ranges::fill(data, uint8_t{0xff});
    return false;
  }
  device->Read(offset, data);
  return true;
}

bool Bus::Write(uint64_t address, std::span<const uint8_t> data) const {
  if (data.empty()) return false;
  uint64_t offset = 0;
  const std::shared_ptr<Device> device = Find(address, data.size(), offset);
  if (device == nullptr) return false;
  device->Write(offset, data);
  return true;
}

}  // namespace crosvm::bus

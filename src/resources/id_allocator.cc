#include "resources/id_allocator.h"

#include <utility>

#include "base/check.h"

namespace crosvm::resources {

IdAllocator::IdAllocator(std::string name, uint32_t first, uint32_t last)
    : name_(std::move(name)), first_(first), last_(last) {
  CHECK(first <= last);
}

Result<uint32_t> IdAllocator::Allocate() {
  // The taken ones are sorted, so the first hole in their sequence is the lowest free number.
  uint64_t candidate = first_;
  for (const uint32_t id : taken_) {
    if (id != candidate) break;
    ++candidate;
  }
  if (candidate > last_) {
    return Fail(ErrorKind::kBusy, "{}: all of {}-{} are taken", name_, first_, last_);
  }
  const auto id = static_cast<uint32_t>(candidate);
  taken_.insert(id);
  return id;
}

Status IdAllocator::AllocateAt(uint32_t id) {
  if (id < first_ || id > last_) {
    return Fail(ErrorKind::kInvalidArgument, "{}: {} is not in {}-{}", name_, id, first_, last_);
  }
  if (!taken_.insert(id).second) return Fail(ErrorKind::kBusy, "{}: {} is taken", name_, id);
  return {};
}

Status IdAllocator::Release(uint32_t id) {
  if (taken_.erase(id) == 0) return Fail(ErrorKind::kNotFound, "{}: {} was not taken", name_, id);
  return {};
}

}  // namespace crosvm::resources

// Small numbers from a range, lowest free first: GSIs, legacy IRQs, memory slots. Not thread-safe.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "base/result.h"

namespace crosvm::resources {

class IdAllocator {
 public:
  // [first, last], both inclusive; first <= last. `name` appears in errors: "IRQs".
  IdAllocator(std::string name, uint32_t first, uint32_t last);

  // The lowest free number. kBusy when none is left.
  Result<uint32_t> Allocate();
  // Takes this number. kBusy when it is taken, kInvalidArgument when it is out of the range.
  Status AllocateAt(uint32_t id);
  // kNotFound when it was not taken.
  Status Release(uint32_t id);

  bool taken(uint32_t id) const { return taken_.contains(id); }
  size_t count() const { return taken_.size(); }

 private:
  std::string name_;
  uint32_t first_;
  uint32_t last_;
  std::set<uint32_t> taken_;
};

}  // namespace crosvm::resources

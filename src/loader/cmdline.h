// The kernel command line, built piece by piece and valid at each step.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "memory/guest_memory.h"

namespace crosvm::loader {

class Cmdline {
 public:
  // `capacity` counts the terminating NUL and is at least 1.
  explicit Cmdline(size_t capacity) : capacity_(capacity) {}

  // Each of these puts a space in front when something is there already. What they add is printable
  // ASCII (0x20 to 0x7e) and leaves the line shorter than the capacity, or nothing is added and
  // kInvalidArgument says why.

  // `key=value`; neither may hold a space, the key no '='; the key may not be empty.
  Status Insert(std::string_view key, std::string_view value);
  // A user's text as it is; empty text adds nothing.
  Status Append(std::string_view text);

  const std::string& text() const { return text_; }
  size_t capacity() const { return capacity_; }

  // Text and NUL to `at`.
  Status Write(const memory::GuestMemory& memory, memory::GuestAddr at) const;

 private:
  const size_t capacity_;
  std::string text_;
};

}  // namespace crosvm::loader

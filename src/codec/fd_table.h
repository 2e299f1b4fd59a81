// The descriptors that travel beside a message, and the field type that names one of them.
//
//   struct BlockStart { codec::FdSlot image; …Describe()… };
//   codec::FdTable fds;                                            // sender
//   const BlockStart start = {.image = fds.Put(std::move(file))};
//   sys::UniqueFd image = TRY(fds.Take(start.image));              // receiver
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace crosvm::codec {

// Index of a descriptor in its message's table. Reading a message refuses an index that its table
// does not have and one that stands in two fields.
struct FdSlot {
  uint32_t index = UINT32_MAX;

  bool operator==(const FdSlot&) const = default;
};

// Owns descriptors; what is not taken is closed with the table.
class FdTable {
 public:
  FdTable() = default;
  explicit FdTable(std::vector<sys::UniqueFd> fds) : fds_(std::move(fds)) {}

  FdSlot Put(sys::UniqueFd fd) {
    fds_.push_back(std::move(fd));
    return {static_cast<uint32_t>(fds_.size() - 1)};
  }

  // kProtocol when the slot does not exist or was taken before.
  Result<sys::UniqueFd> Take(FdSlot slot) {
    if (slot.index >= fds_.size() || !fds_[slot.index].valid()) {
      return Fail(ErrorKind::kProtocol,
                  "the message brought no descriptor {}, or it was taken before", slot.index);
    }
    return std::move(fds_[slot.index]);
  }

  size_t size() const { return fds_.size(); }
  // Borrows of all, for sending; none may have been taken.
  std::vector<sys::BorrowedFd> Borrow() const { return {fds_.begin(), fds_.end()}; }
  std::vector<sys::UniqueFd> Release() && { return std::move(fds_); }

 private:
  std::vector<sys::UniqueFd> fds_;
};

}  // namespace crosvm::codec

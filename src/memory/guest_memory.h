// The guest's RAM as this process sees it: a table of regions, each a mapping of a sealed memfd.
// Used by the VMM, which makes it, and by device processes, which receive the descriptors. Copying
// the handle shares the immutable table; a new table is made when regions change. Safe from every
// thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "base/result.h"
#include "memory/guest_addr.h"
#include "memory/guest_cell.h"
#include "memory/guest_slice.h"
#include "sys/fd.h"
#include "sys/memfd.h"

namespace crosvm::memory {

// A range of RAM to be created. Page-aligned.
struct RegionLayout {
  GuestAddr start;
  uint64_t size = 0;
};

// A range of RAM backed by a descriptor from elsewhere (vhost-user memory table, firmware image).
struct RegionFile {
  GuestAddr start;
  uint64_t size = 0;
  sys::UniqueFd fd;
  uint64_t fd_offset = 0;  // page-aligned
};

struct RegionInfo {
  GuestAddr start;
  uint64_t size = 0;
  sys::BorrowedFd fd;  // valid for as long as the GuestMemory lives
  uint64_t fd_offset = 0;
  uint64_t host_address = 0;  // where this process maps it; for KVM and vhost only
};

enum class HugePages : uint8_t {
  kNone,
  kTransparent,  // madvise(MADV_HUGEPAGE)
  kReserved,     // hugetlbfs pages; sizes must be multiples of 2 MiB
};

class GuestMemory {
 public:
  GuestMemory() = default;  // no regions: every access fails

  // Makes one sealed memfd per region; zero-filled, MADV_DONTDUMP. Regions are sorted and do not
  // overlap.
  static Result<GuestMemory> Create(std::span<const RegionLayout> layout,
                                    HugePages pages = HugePages::kNone);
  // Maps descriptors of a peer. TRUST: each must be a memfd sealed against shrinking and large
  // enough, unless `require_seals` is false (QEMU as the peer does not seal; a fault then ends this
  // device process, nothing else).
  static Result<GuestMemory> Map(std::vector<RegionFile> regions, bool require_seals);

  std::span<const RegionInfo> regions() const;
  uint64_t total_size() const;

  // The range, when it lies wholly in one region. Length 0 at a valid address gives an empty slice.
  std::optional<GuestSlice> Slice(GuestAddr address, uint64_t length) const;

  // The longest part of [address, address + length) that lies in one region; for buffers that may
  // cross into an adjacent one. Empty when the address is outside memory.
  std::optional<GuestSlice> SliceUpTo(GuestAddr address, uint64_t length) const;

  // Copies one T out of guest memory, once. T is trivially copyable, usually a wire struct of
  // Le16/32/64.
  template <typename T>
  std::optional<T> Read(GuestAddr address) const {
    static_assert(std::is_trivially_copyable_v<T>);
    T value{};
    // SAFETY: T is trivially copyable, so its bytes may be written.
    if (!ReadBytes(address, {reinterpret_cast<uint8_t*>(&value), sizeof(T)})) return std::nullopt;
    return value;
  }
  template <typename T>
  [[nodiscard]] bool Write(GuestAddr address, const T& value) const {
    static_assert(std::is_trivially_copyable_v<T>);
    // SAFETY: T is trivially copyable, so its bytes may be read.
    return WriteBytes(address, {reinterpret_cast<const uint8_t*>(&value), sizeof(T)});
  }
  // The whole range or nothing; ranges may not cross regions.
  [[nodiscard]] bool ReadBytes(GuestAddr address, std::span<uint8_t> out) const;
  [[nodiscard]] bool WriteBytes(GuestAddr address, std::span<const uint8_t> in) const;

  // A control word; empty when it is outside memory or misaligned.
  template <typename T>
  std::optional<GuestCell<T>> Cell(GuestAddr address) const {
    uint8_t* const data = Translate(address, sizeof(T));
    if (data == nullptr || address.value() % sizeof(T) != 0) return std::nullopt;
    // SAFETY: in bounds and naturally aligned (regions start on pages).
    return GuestCell<T>(reinterpret_cast<T*>(data));
  }

  // Gives the pages of a range back to the host (punches the memfd); they read as zeroes
  // afterwards.
  Status Discard(GuestAddr address, uint64_t length) const;

 private:
  struct Table;
  explicit GuestMemory(std::shared_ptr<const Table> table) : table_(std::move(table)) {}
  // Null when the range does not lie in one region.
  const RegionInfo* Find(GuestAddr address, uint64_t length) const;
  uint8_t* Translate(GuestAddr address, uint64_t length) const;

  std::shared_ptr<const Table> table_;
};

}  // namespace crosvm::memory

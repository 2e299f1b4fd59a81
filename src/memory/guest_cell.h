// A control word in guest memory (ring indices, event suppression, packed flags), accessed
// atomically with a named memory order. Each Load is one access.
#pragma once

#include <atomic>
#include <cstdint>
#include <type_traits>

namespace crosvm::memory {

// T is uint16_t, uint32_t or uint64_t, naturally aligned in guest memory, little-endian as
// virtio 1.x wants. Valid for as long as the GuestMemory it came from lives.
template <typename T>
class GuestCell {
  static_assert(std::is_same_v<T, uint16_t> || std::is_same_v<T, uint32_t> ||
                std::is_same_v<T, uint64_t>);

 public:
  GuestCell() = default;

  // ORDERING: the name says it; which one a ring needs is argued where it is used.
  T LoadRelaxed() const { return __atomic_load_n(cell_, __ATOMIC_RELAXED); }
  T LoadAcquire() const { return __atomic_load_n(cell_, __ATOMIC_ACQUIRE); }
  void StoreRelaxed(T value) const { __atomic_store_n(cell_, value, __ATOMIC_RELAXED); }
  void StoreRelease(T value) const { __atomic_store_n(cell_, value, __ATOMIC_RELEASE); }

 private:
  friend class GuestMemory;
  friend class GuestSlice;
  explicit GuestCell(T* cell) : cell_(cell) {}
  T* cell_ = nullptr;
};

// Orders a store to one cell before a load of another (publish, then read the suppression word).
// ORDERING: store-load needs the full fence; release and acquire do not give it.
inline void FullFence() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

}  // namespace crosvm::memory

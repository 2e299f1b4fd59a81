// One request of the driver: a validated descriptor chain, copied out of the ring exactly once.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "memory/guest_slice.h"

namespace crosvm::virtio {

// Move-only; whoever holds it must give it to Queue::Complete() (or Queue::Abandon() on reset): the
// destructor CHECKs. The readable part comes before the writable part (virtio 1.2, 2.7.4.2); both
// are lists of slices.
class Chain {
 public:
  Chain(Chain&& other) noexcept;
  Chain& operator=(Chain&& other) noexcept;
  Chain(const Chain&) = delete;
  Chain& operator=(const Chain&) = delete;
  ~Chain();

  // Identifies the chain in its queue until it is completed: the head index (split) or buffer id
  // (packed).
  uint16_t id() const { return id_; }

  std::span<const memory::GuestSlice> readable() const;
  std::span<const memory::GuestSlice> writable() const;
  uint64_t readable_bytes() const { return readable_bytes_; }
  uint64_t writable_bytes() const { return writable_bytes_; }
  // Buffers, or parts of them, are not in memory (Queue::AcceptUnreachable()): there are no slices
  // of these. Only what comes before the first of them, in either part, is where it seems to be.
  bool unreachable() const { return unreachable_; }

 private:
  friend class Queue;
  friend class ChainBuilder;
  friend class SplitRing;
  friend class PackedRing;
  Chain() = default;

  uint16_t id_ = 0;
  uint16_t descriptors_ = 0;     // ring slots used (packed)
  uint16_t inflight_entry_ = 0;  // where the in-flight record is (packed)
  bool live_ = false;
  bool recovered_ = false;  // was in flight when a predecessor died
  bool accepts_unreachable_ = false;
  bool unreachable_ = false;
  uint32_t sequence_ = 0;  // number of the Pop() that returned it
  size_t readable_count_ = 0;
  uint64_t readable_bytes_ = 0;
  uint64_t writable_bytes_ = 0;
  std::vector<memory::GuestSlice> slices_;  // taken from and returned to the queue's pool
};

// A cursor over a list of slices: every byte is copied at most once, in order.
class SliceReader {
 public:
  explicit SliceReader(std::span<const memory::GuestSlice> slices);

  uint64_t remaining() const { return remaining_; }
  // Copies exactly out.size() bytes or, when fewer remain, nothing (false).
  [[nodiscard]] bool Read(std::span<uint8_t> out);
  template <typename T>
    requires std::is_trivially_copyable_v<T>
  std::optional<T> Read() {
    T value{};
    // SAFETY: T is a trivially copyable wire struct.
    if (!Read({reinterpret_cast<uint8_t*>(&value), sizeof(T)})) return std::nullopt;
    return value;
  }
  [[nodiscard]] bool Skip(uint64_t bytes);
  // Appends the next `bytes` as slices (all of them or nothing).
  [[nodiscard]] bool Take(uint64_t bytes, std::vector<memory::GuestSlice>& out);

 private:
  std::span<const memory::GuestSlice> slices_;
  size_t offset_ = 0;
  uint64_t remaining_ = 0;
};

class SliceWriter {
 public:
  explicit SliceWriter(std::span<const memory::GuestSlice> slices);

  uint64_t remaining() const { return remaining_; }
  uint64_t written() const { return written_; }
  // Copies all of `in` or, when it does not fit, nothing (false).
  [[nodiscard]] bool Write(std::span<const uint8_t> in);
  template <typename T>
    requires(std::is_trivially_copyable_v<T> &&
             !std::is_convertible_v<const T&, std::span<const uint8_t>>)
  [[nodiscard]] bool Write(const T& value) {
    // SAFETY: T is a trivially copyable wire struct without padding.
    return Write({reinterpret_cast<const uint8_t*>(&value), sizeof(T)});
  }
  // Passes over bytes that something else (the kernel) has written or will write.
  [[nodiscard]] bool Skip(uint64_t bytes);
  [[nodiscard]] bool Take(uint64_t bytes, std::vector<memory::GuestSlice>& out);

 private:
  std::span<const memory::GuestSlice> slices_;
  size_t offset_ = 0;
  uint64_t remaining_ = 0;
  uint64_t written_ = 0;
};

}  // namespace crosvm::virtio

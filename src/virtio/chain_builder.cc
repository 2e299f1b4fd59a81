#include "virtio/chain_builder.h"

#include <algorithm>

#include "base/checked_math.h"
#include "virtio/types.h"

namespace crosvm::virtio {

const char* ChainBuilder::AddBuffer(uint64_t address, uint32_t length, bool writable) {
  if (!writable && chain_.writable_bytes_ > 0) return "a readable buffer follows a writable one";
  // virtio 1.2, 2.7.5.2: the driver's limit of 2^32 bytes for a chain. What was added before fits,
  // so the sum does.
  if (chain_.readable_bytes_ + chain_.writable_bytes_ + length > UINT32_MAX) {
    return "the chain is longer than 4 GiB";
  }
  uint64_t left = length;
  uint64_t at = address;
  // A buffer may cross into an adjacent region; each region adds a slice, and regions are few.
  while (left > 0) {
    const std::optional<memory::GuestSlice> slice = memory_.SliceUpTo(memory::GuestAddr(at), left);
    if (!slice) {
      if (!chain_.accepts_unreachable_) return "a buffer is outside memory";
      chain_.unreachable_ = true;
      break;
    }
    chain_.slices_.push_back(*slice);
    if (!writable) ++chain_.readable_count_;
    // The slice lies in memory, so its end does not wrap.
    at += slice->size();
    left -= slice->size();
  }
  (writable ? chain_.writable_bytes_ : chain_.readable_bytes_) += length;
  return nullptr;
}

std::optional<memory::GuestSlice> ChainBuilder::Table(uint64_t address, uint32_t length) const {
  if (length == 0 || length % sizeof(RawDescriptor) != 0) return std::nullopt;
  return memory_.Slice(memory::GuestAddr(address), length);
}

// virtio 1.2, 2.7.5.3. The write flag of the descriptor that names the table is ignored by the
// caller (2.7.5.3.2).
const char* ChainBuilder::AddSplitTable(uint64_t address, uint32_t length) {
  const std::optional<memory::GuestSlice> table = Table(address, length);
  if (!table) return "an indirect table has a bad length or is outside memory";
  const uint32_t entries = length / uint32_t{sizeof(RawDescriptor)};
  const uint32_t limit = std::min(entries, kMaxIndirectDescriptors);
  uint32_t index = 0;
  for (uint32_t seen = 0; seen < limit; ++seen) {
    const RawDescriptor raw = *table->Read<RawDescriptor>(size_t{index} * sizeof(RawDescriptor));
    const uint16_t flags = raw.third;
    if ((flags & ~(VRING_DESC_F_NEXT | VRING_DESC_F_WRITE)) != 0) {
      return "an indirect table holds an indirect descriptor or unknown flags";
    }
    if (const char* why = AddBuffer(raw.address, raw.length, (flags & VRING_DESC_F_WRITE) != 0)) {
      return why;
    }
    if ((flags & VRING_DESC_F_NEXT) == 0) return nullptr;
    index = raw.fourth;
    if (index >= entries) return "a link leaves its indirect table";
  }
  return "an indirect table has a loop or is too long";
}

// virtio 1.2, 2.8.7: the whole table is the chain, in its order.
const char* ChainBuilder::AddPackedTable(uint64_t address, uint32_t length) {
  const std::optional<memory::GuestSlice> table = Table(address, length);
  if (!table) return "an indirect table has a bad length or is outside memory";
  const uint32_t entries = length / uint32_t{sizeof(RawDescriptor)};
  if (entries > kMaxIndirectDescriptors) return "an indirect table is too long";
  for (uint32_t i = 0; i < entries; ++i) {
    const RawDescriptor raw = *table->Read<RawDescriptor>(size_t{i} * sizeof(RawDescriptor));
    const uint16_t flags = raw.fourth;
    // Only the write flag means something here; the others but INDIRECT are reserved, and Linux
    // leaves NEXT clear.
    constexpr uint16_t kIgnored =
        VRING_DESC_F_NEXT | (1 << VRING_PACKED_DESC_F_AVAIL) | (1 << VRING_PACKED_DESC_F_USED);
    if ((flags & ~(VRING_DESC_F_WRITE | kIgnored)) != 0) {
      return "an indirect table holds an indirect descriptor or unknown flags";
    }
    if (const char* why = AddBuffer(raw.address, raw.length, (flags & VRING_DESC_F_WRITE) != 0)) {
      return why;
    }
  }
  return nullptr;
}

}  // namespace crosvm::virtio

// Turns descriptors into a Chain, with every rule that split and packed rings share. Private to
// virtio/.
#pragma once

#include <cstdint>
#include <optional>

#include "base/endian.h"
#include "memory/guest_memory.h"
#include "virtio/chain.h"

namespace crosvm::virtio {

// virtio 1.2, 2.7.5 and 2.8.13; the last two fields mean different things in the two formats.
struct RawDescriptor {
  Le64 address;
  Le32 length;
  Le16 third;   // split: flags; packed: buffer id
  Le16 fourth;  // split: next; packed: flags
};
static_assert(sizeof(RawDescriptor) == 16);

// A chain has at most this many descriptors in its indirect table, whatever the size of the queue:
// drivers do go beyond the queue size there. It bounds what a guest can make us allocate.
inline constexpr uint32_t kMaxIndirectDescriptors = 1024;

// Fills one chain; null means fine, else static text that says what is wrong.
class ChainBuilder {
 public:
  ChainBuilder(const memory::GuestMemory& memory, Chain& chain) : memory_(memory), chain_(chain) {}

  const char* AddBuffer(uint64_t address, uint32_t length, bool writable);
  // The table of an indirect descriptor.
  const char* AddSplitTable(uint64_t address, uint32_t length);
  const char* AddPackedTable(uint64_t address, uint32_t length);

 private:
  std::optional<memory::GuestSlice> Table(uint64_t address, uint32_t length) const;

  const memory::GuestMemory& memory_;
  Chain& chain_;
};

}  // namespace crosvm::virtio

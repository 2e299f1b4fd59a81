// A driver for tests of queues and devices: makes rings (split or packed) in guest memory and plays
// the guest's part.
//
//   Driver driver(memory, {.packed = true});
//   Queue queue = driver.MakeQueue();               // the device's end
//   uint16_t id = driver.Chain().Readable("ping").Writable(512).Submit();
//   driver.Kick();                                  // only if the device wants it: KickWanted()
//   …the device works…
//   std::optional<Used> used = driver.NextUsed();   // used->id, used->written, used->data
//
// Hostile rings are made with Raw() descriptors, Poke… and the addresses. Wrong use CHECKs: this is
// test code.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "memory/guest_memory.h"
#include "sys/event_fd.h"
#include "virtio/queue.h"

namespace crosvm::virtio::testing {

struct DriverOptions {
  uint16_t size = 16;
  bool packed = false;
  bool event_idx = false;
  bool indirect =
      true;  // whether the feature is acknowledged; chains use it when they say Indirect()
  memory::GuestAddr area{0x1000};  // where rings and buffers are put
  uint64_t area_size = 1 << 20;
  uint64_t extra_features = 0;  // of the device, for MakeConfig()
};

// A finished request.
struct Used {
  uint16_t id = 0;
  uint32_t written = 0;
  std::vector<uint8_t>
      data;  // all of the writable part, as it is now (its first `written` bytes are the answer)
};

class Driver;

// The buffers of one request. Readable ones come first.
class ChainSpec {
 public:
  ChainSpec& Readable(std::span<const uint8_t> bytes);
  ChainSpec& Readable(std::string_view text);
  template <typename T>
  ChainSpec& ReadableStruct(const T& value) {
    // SAFETY: T is a trivially copyable wire struct.
    return Readable(std::span(reinterpret_cast<const uint8_t*>(&value), sizeof(T)));
  }
  ChainSpec& Writable(uint32_t size);
  // A descriptor as it stands, with any address, length and flags (NEXT is added where one
  // follows).
  ChainSpec& Raw(uint64_t address, uint32_t length, uint16_t flags);
  // Puts the descriptors into an indirect table.
  ChainSpec& Indirect();
  // Makes the chain available; returns its id. Does not notify.
  uint16_t Submit();
  // As Submit, but the device does not see it before Driver::Publish().
  uint16_t Stage();

 private:
  friend class Driver;
  explicit ChainSpec(Driver& driver) : driver_(driver) {}
  struct Buffer {
    uint64_t address = 0;
    uint32_t length = 0;
    uint16_t flags = 0;
  };
  Driver& driver_;
  std::vector<Buffer> buffers_;
  bool indirect_ = false;
};

class Driver {
 public:
  explicit Driver(memory::GuestMemory memory, DriverOptions options = {});

  // A driver that stands where this one stands, on the same memory: what the guest would do from
  // here. For tests that go back in time.
  Driver Clone() const;

  // RAM of `size` bytes at 0.
  static memory::GuestMemory MakeMemory(uint64_t size = 4 << 20);

  ChainSpec Chain() { return ChainSpec(*this); }
  // Shows the device everything that was staged.
  void Publish();
  // The next used element, or nothing. CHECKs that its id is one that is outstanding.
  std::optional<Used> NextUsed();
  std::vector<Used> AllUsed();
  // The next used element of a device on another thread or in another process; sleeps until its
  // interrupt. Nothing after `patience`. Leaves interrupts on.
  std::optional<Used> AwaitUsed(std::chrono::milliseconds patience = std::chrono::seconds(30));
  size_t outstanding() const { return outstanding_.size(); }

  // Whether the device wants a notification for what was published since the last call.
  bool KickWanted();
  void Kick() { kick_.Signal(); }
  // Number of interrupts since the last call.
  uint64_t Interrupts() { return call_.Drain(); }
  // Without EVENT_IDX: the flag. With: never, or at the next used element.
  void EnableInterrupts(bool on);
  // EVENT_IDX: interrupt once `chains` more (of one slot each, packed) have been used.
  void InterruptAfter(uint16_t chains);

  const DriverOptions& options() const { return options_; }
  const memory::GuestMemory& memory() const { return memory_; }
  const RingAddresses& addresses() const { return addresses_; }
  uint64_t features() const;
  QueueConfig MakeConfig() const;
  // The device's end of a queue with the kick and call of this driver.
  Queue MakeQueue(std::unique_ptr<InflightQueue> inflight = nullptr,
                  RingPosition position = RingPosition());
  const sys::EventFd& kick() const { return kick_; }
  const sys::EventFd& call() const { return call_; }

  // Guest memory for a test's own use, 16-byte aligned; never freed. (Buffers of chains are, once
  // all were used.)
  memory::GuestAddr Allocate(uint64_t size);

  // Hostile: sets the available index (split).
  void PokeAvailIndex(uint16_t index);
  // Hostile: overwrites a descriptor of the ring or table.
  void PokeDescriptor(uint16_t slot, uint64_t address, uint32_t length, uint16_t third,
                      uint16_t fourth);
  // Hostile: makes a head available without a chain behind it (split).
  void PokeAvailable(uint16_t head);
  // Split: the used index as the device has published it.
  uint16_t used_index() const;

 private:
  friend class ChainSpec;
  struct CloneTag {};
  Driver(CloneTag, memory::GuestMemory memory, DriverOptions options);  // touches no memory

  struct Outstanding {
    std::vector<uint16_t> slots;  // split: descriptors to free
    uint16_t slot_count = 0;      // packed
    std::vector<ChainSpec::Buffer> writable;
  };
  memory::GuestAddr AllocateBuffer(uint64_t size);
  uint16_t Stage(const ChainSpec& spec);
  uint16_t StageSplit(std::vector<ChainSpec::Buffer> buffers, Outstanding& record);
  uint16_t StagePacked(std::vector<ChainSpec::Buffer> buffers, Outstanding& record);
  std::optional<std::pair<uint16_t, uint32_t>> NextUsedSplit();
  std::optional<std::pair<uint16_t, uint32_t>> NextUsedPacked();

  memory::GuestMemory memory_;
  DriverOptions options_;
  RingAddresses addresses_;
  sys::EventFd kick_;
  sys::EventFd call_;
  uint64_t area_end_ = 0;
  uint64_t bump_start_ = 0;
  uint64_t bump_ = 0;
  std::map<uint16_t, Outstanding> outstanding_;

  // Split: free descriptors and indices.
  std::vector<uint16_t> free_;
  uint16_t avail_ = 0;
  uint16_t kicked_avail_ = 0;
  uint16_t published_avail_ = 0;
  uint16_t next_used_ = 0;
  // Packed: `free_` are buffer ids.
  uint16_t slot_ = 0;
  bool slot_wrap_ = true;
  bool used_wrap_ = true;
  uint16_t free_slots_ = 0;
  struct StagedHead {
    uint16_t slot = 0;
    uint16_t flags = 0;
  };
  std::deque<StagedHead> staged_;
  struct Place {
    uint16_t slot = 0;
    bool wrap = true;
  };
  Place kicked_;
};

}  // namespace crosvm::virtio::testing

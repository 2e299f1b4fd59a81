// Which requests a device has taken but not finished, kept in memory that outlives the device
// process: the layout of vhost-user's "Inflight I/O tracking" (split and packed). The VMM owns the
// memory; it is as hostile as the guest's.
//
// Used by the rings only (and by BackendServer, which maps the region). A process may be killed
// between any two stores; each method makes its stores in the order of the specification, so that a
// successor completes every request once.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "sys/mapped_region.h"

namespace crosvm::virtio {

// A descriptor of a packed ring as the driver wrote it. Its slot is reused before the request is
// finished, so the in-flight record keeps a copy.
struct PackedDescriptor {
  uint64_t address = 0;
  uint32_t length = 0;
  uint16_t id = 0;
  uint16_t flags = 0;
};

struct PackedUsedPosition {
  uint16_t index = 0;
  bool wrap = true;
};

struct PackedInflight {
  uint16_t entry = 0;
  uint64_t counter = 0;
  std::vector<PackedDescriptor> descriptors;
};

// The part of the inflight memory that belongs to one queue.
class InflightQueue {
 public:
  // Bytes that one queue needs, a multiple of 64.
  static uint64_t BytesPerQueue(uint16_t queue_size, bool packed);
  // `region` is shared by the queues of a device. kInvalidArgument when [offset, offset +
  // BytesPerQueue) is not in it.
  static Result<std::unique_ptr<InflightQueue>> Create(std::shared_ptr<sys::MappedRegion> region,
                                                       uint64_t offset, uint16_t queue_size,
                                                       bool packed);
  ~InflightQueue();

  // True when no device has used this part yet (or it was cleared): there is nothing to recover and
  // the ring position comes from the front-end.
  bool fresh() const;
  // Back to fresh: the queue was drained and its position handed over.
  void Clear();

  // Split rings. `id` is the head of the chain.
  void StartSplit(uint16_t used_index);
  void Taken(uint16_t id);
  void Undone(uint16_t id);
  // Of each chain of a batch, before the used index is stored.
  void BeforePublish(uint16_t id);
  // After it was stored.
  void AfterPublish(std::span<const uint16_t> batch, uint16_t used_index);
  // What a successor has to submit again, oldest first, given the used index found in the ring.
  std::vector<uint16_t> Recover(uint16_t used_index);

  // Packed rings. An entry is the place of the record, returned by TakenPacked.
  void StartPacked(PackedUsedPosition used);
  // At most queue size descriptors are in flight at a time.
  uint16_t TakenPacked(std::span<const PackedDescriptor> descriptors);
  void UndonePacked(uint16_t entry);
  // Before the flags of the batch's first used descriptor are stored / after.
  void BeforePublishPacked(std::span<const uint16_t> batch, PackedUsedPosition used);
  void AfterPublishPacked(std::span<const uint16_t> batch);
  // The used position that was current before the batch in whose publishing the predecessor may
  // have died.
  PackedUsedPosition OldUsed() const;
  // As Recover. `published` tells whether the flags at OldUsed() show a used descriptor. Returns
  // the used position to go on from in `used`. kProtocol when the records contradict themselves.
  Result<std::vector<PackedInflight>> RecoverPacked(bool published, PackedUsedPosition& used);

 private:
  InflightQueue() = default;
  template <typename T>
  T Load(uint64_t offset) const;
  template <typename T>
  void Store(uint64_t offset, T value);
  uint64_t Entry(uint16_t index) const;
  void FreeChain(uint16_t entry);
  uint16_t Next(uint16_t entry) const { return next_[entry]; }

  std::shared_ptr<sys::MappedRegion> region_;
  uint8_t* base_ = nullptr;
  uint16_t size_ = 0;
  bool packed_ = false;
  uint64_t counter_ = 0;
  // Packed: what the shared free list holds, as only we know for sure.
  std::vector<uint16_t> next_;
  std::vector<uint16_t> last_;
  uint16_t free_head_ = 0;
};

}  // namespace crosvm::virtio

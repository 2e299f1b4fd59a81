// Which requests a device has taken but not finished, kept in memory that outlives the device process: the layout of
// vhost-user's "Inflight I/O tracking" (split and packed). The VMM owns the memory; it is as hostile as the guest's.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "sys/mapped_region.h"

namespace crosvm::virtio {

// The part of the inflight memory that belongs to one queue.
class InflightQueue {
 public:
  // Bytes that one queue needs, a multiple of 64.
  static uint64_t BytesPerQueue(uint16_t queue_size, bool packed);
  // `region` is shared by the queues of a device; [offset, offset + BytesPerQueue) is in it.
  static Result<std::unique_ptr<InflightQueue>> Create(std::shared_ptr<sys::MappedRegion> region,
                                                       uint64_t offset, uint16_t queue_size,
                                                       bool packed);
  ~InflightQueue();

  // The split-ring protocol of the specification, in its order of stores. `id` is the head of the chain.
  void Taken(uint16_t id);
  // Before the used index is published / after it was.
  void BeforePublish(uint16_t last_id);
  void AfterPublish(uint16_t id, uint16_t used_index);

  // What a successor has to submit again, oldest first, given the used index found in the ring. Ids are validated
  // against the queue size; each appears once.
  std::vector<uint16_t> Recover(uint16_t used_index);

 private:
  InflightQueue() = default;
  std::shared_ptr<sys::MappedRegion> region_;
  uint8_t* base_ = nullptr;
  uint16_t size_ = 0;
  bool packed_ = false;
  uint64_t counter_ = 0;
};

}  // namespace crosvm::virtio

// Guest memory is the input: any ring at all must give bounded chains or a broken queue. The first
// bytes choose format and features; the rest is laid over the rings, and again between the pops, as
// a guest that changes its mind.
#include <cstring>

#include "virtio/queue.h"
#include "virtio/testing/driver.h"
#include "virtio/types.h"

namespace {

using namespace crosvm;

constexpr uint64_t kMemory = 0x4000;

void Consume(virtio::Queue& queue, virtio::Chain chain, uint8_t how) {
  virtio::SliceReader reader(chain.readable());
  uint8_t byte = 0;
  (void)reader.Read({&byte, 1});
  (void)reader.Skip(how);
  virtio::SliceWriter writer(chain.writable());
  (void)writer.Write(byte);
  if (how % 7 == 3) {
    queue.Undo(std::move(chain));
  } else {
    queue.Complete(std::move(chain), static_cast<uint32_t>(writer.written()));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 8) return 0;
  static const memory::GuestMemory memory = virtio::testing::Driver::MakeMemory(kMemory);
  const std::span<const uint8_t> choice(data, 8);
  const std::span<const uint8_t> bytes(data + 8, size - 8);
  memory.Slice(memory::GuestAddr(0), kMemory)->Zero();
  memory.Slice(memory::GuestAddr(0), kMemory)->CopyFrom(bytes);

  virtio::QueueConfig config;
  const bool packed = (choice[0] & 1) != 0;
  config.size = packed ? choice[1] : static_cast<uint16_t>(1u << (choice[1] % 8));
  config.features = virtio::FeatureBit(VIRTIO_F_VERSION_1);
  if (packed) config.features |= virtio::FeatureBit(VIRTIO_F_RING_PACKED);
  if ((choice[0] & 2) != 0) config.features |= virtio::FeatureBit(VIRTIO_RING_F_EVENT_IDX);
  if ((choice[0] & 4) != 0) config.features |= virtio::FeatureBit(VIRTIO_RING_F_INDIRECT_DESC);
  config.addresses = {.descriptors = memory::GuestAddr(0),
                      .driver = memory::GuestAddr(uint64_t{choice[2]} * 16),
                      .device = memory::GuestAddr(uint64_t{choice[3]} * 32)};
  config.position = virtio::RingPosition::FromVringBase(choice[4], packed);

  std::unique_ptr<virtio::InflightQueue> inflight;
  if ((choice[0] & 8) != 0) {
    auto region = std::make_shared<sys::MappedRegion>(*sys::MappedRegion::Anonymous(0x2000));
    // The records are as hostile as the ring.
    if (!bytes.empty())
      std::memcpy(region->data(), bytes.data(), std::min<size_t>(bytes.size(), 0x2000));
    auto made =
        virtio::InflightQueue::Create(region, 0, std::max<uint16_t>(config.size, 1), packed);
    if (made) inflight = *std::move(made);
  }
  Result<virtio::Queue> queue = virtio::Queue::Create(memory, config, {}, {}, std::move(inflight));
  if (!queue) return 0;
  for (size_t i = 0; i < 600; ++i) {
    std::optional<virtio::Chain> chain = queue->Pop();
    if (!chain) {
      if (queue->broken()) break;
      if (i > 64) break;
    } else {
      Consume(*queue, *std::move(chain), static_cast<uint8_t>(choice[5] + i));
    }
    if (i % 3 == 0) queue->Flush();
    if (i % 16 == 15 && !bytes.empty()) {
      const size_t from = (i * choice[6]) % bytes.size();
      memory.Slice(memory::GuestAddr(choice[7]), 64)->CopyFrom(bytes.subspan(from));
    }
  }
  queue->Flush();
  (void)queue->position();
  return 0;
}

// A load generator for vhost-user-blk back-ends, ours or foreign: one queue, a fixed number of
// requests in flight, each submitted again as soon as it is done. Does what a guest's driver does
// (EVENT_IDX, sleeping until the call eventfd is signalled) and as little else as possible. Prints
// {"iops": …, "bandwidth": …}.
//
//   vhost_user_blk_load --socket PATH --rw randread|randwrite|read|write --block-size BYTES --depth
//   N --seconds S
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <poll.h>

#include <array>
#include <bit>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <random>
#include <string>

#include "base/checked_math.h"
#include "base/endian.h"
#include "event/event_loop.h"
#include "memory/guest_memory.h"
#include "sys/event_fd.h"
#include "sys/socket.h"
#include "vhost_user/frontend.h"
#include "virtio/types.h"

namespace {

using namespace crosvm;
using memory::GuestAddr;
using Clock = std::chrono::steady_clock;

constexpr uint16_t kRingSize = 256;
constexpr uint16_t kDescriptors = 3;  // header, data, status
constexpr uint64_t kAvail = 0x2000;
constexpr uint64_t kUsed = 0x3000;
constexpr uint64_t kHeaders = 0x5000;
constexpr uint64_t kStatuses = 0x8000;
constexpr uint64_t kData = 0x100000;
constexpr uint64_t kSector = 512;
// Comes before a bad status is taken for a hang.
constexpr int kStallMs = 20000;

struct Options {
  std::string socket;
  bool random = false;
  bool write = false;
  uint32_t block_size = 4096;
  uint16_t depth = 32;
  unsigned seconds = 5;
};

struct Descriptor {
  Le64 address;
  Le32 length;
  Le16 flags;
  Le16 next;
};
struct Header {
  Le32 type;
  Le32 reserved;
  Le64 sector;
};

class Load {
 public:
  Load(const Options& options, memory::GuestMemory memory, uint64_t capacity)
      : options_(options), memory_(std::move(memory)), blocks_(capacity / options.block_size) {}

  static constexpr virtio::RingAddresses kAddresses{
      .descriptors = GuestAddr(0), .driver = GuestAddr(kAvail), .device = GuestAddr(kUsed)};
  sys::EventFd kick = *sys::EventFd::Create();
  sys::EventFd call = *sys::EventFd::Create();

  bool Run() {
    for (uint16_t slot = 0; slot < options_.depth; ++slot) Prepare(slot);
    const Clock::time_point start = Clock::now();
    const Clock::time_point end = start + std::chrono::seconds(options_.seconds);
    for (uint16_t slot = 0; slot < options_.depth; ++slot) Submit(slot);
    Publish();
    while (Clock::now() < end) {
      if (!Wait()) return false;
      // As an interrupt handler does: until nothing is left after asking for the next interrupt.
      do {
        if (!Harvest()) return false;
        memory_.Cell<uint16_t>(GuestAddr(kAvail + 4 + 2 * kRingSize))->StoreRelaxed(used_);
        memory::FullFence();
      } while (UsedIndex() != used_);
    }
    const std::chrono::duration<double> took = Clock::now() - start;
    const double iops = static_cast<double>(done_) / took.count();
    printf("{\"iops\": %.1f, \"bandwidth\": %.1f, \"batch\": %.2f}\n", iops,
           iops * options_.block_size,
           wakes_ != 0 ? static_cast<double>(done_) / static_cast<double>(wakes_) : 0.0);
    return true;
  }

 private:
  void Describe(uint16_t index, uint64_t address, uint32_t length, uint16_t flags) {
    const Descriptor descriptor{Le64(address), Le32(length), Le16(flags),
                                Le16(static_cast<uint16_t>(index + 1))};
    (void)memory_.Write(GuestAddr(16 * uint64_t{index}), descriptor);
  }
  void Prepare(uint16_t slot) {
    const auto first = static_cast<uint16_t>(slot * kDescriptors);
    const uint16_t direction = options_.write ? 0 : VRING_DESC_F_WRITE;
    Describe(first, kHeaders + slot * sizeof(Header), sizeof(Header), VRING_DESC_F_NEXT);
    Describe(static_cast<uint16_t>(first + 1), kData + uint64_t{slot} * options_.block_size,
             options_.block_size, static_cast<uint16_t>(VRING_DESC_F_NEXT | direction));
    Describe(static_cast<uint16_t>(first + 2), kStatuses + slot, 1, VRING_DESC_F_WRITE);
  }
  void Submit(uint16_t slot) {
    const uint64_t block = options_.random ? random_() % blocks_ : next_block_++ % blocks_;
    const Header header{Le32(options_.write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN), Le32(0),
                        Le64(block * options_.block_size / kSector)};
    (void)memory_.Write(GuestAddr(kHeaders + slot * sizeof(Header)), header);
    (void)memory_.Write(GuestAddr(kStatuses + slot), uint8_t{0xff});
    (void)memory_.Write(GuestAddr(kAvail + 4 + uint64_t{2} * (avail_ % kRingSize)),
                        Le16(static_cast<uint16_t>(slot * kDescriptors)));
    ++avail_;
  }
  void Publish() {
    // ORDERING: release, the ring entries before; then the device's wish after a full fence.
    memory_.Cell<uint16_t>(GuestAddr(kAvail + 2))->StoreRelease(avail_);
    memory::FullFence();
    const uint16_t event =
        memory_.Cell<uint16_t>(GuestAddr(kUsed + 4 + 8 * kRingSize))->LoadRelaxed();
    const bool wanted =
        static_cast<uint16_t>(avail_ - event - 1) < static_cast<uint16_t>(avail_ - published_);
    published_ = avail_;
    if (wanted) kick.Signal();
  }
  uint16_t UsedIndex() { return memory_.Cell<uint16_t>(GuestAddr(kUsed + 2))->LoadAcquire(); }
  bool Harvest() {
    for (const uint16_t end = UsedIndex(); used_ != end; ++used_) {
      const auto id = memory_.Read<Le32>(GuestAddr(kUsed + 4 + uint64_t{8} * (used_ % kRingSize)));
      const auto slot = static_cast<uint16_t>(id->value() / kDescriptors);
      const auto status = memory_.Read<uint8_t>(GuestAddr(kStatuses + slot));
      if (slot >= options_.depth || !status || *status != VIRTIO_BLK_S_OK) {
        fprintf(stderr, "request %u ended with status %d\n", slot, status ? *status : -1);
        return false;
      }
      ++done_;
      Submit(slot);
    }
    if (avail_ != published_) Publish();
    return true;
  }
  bool Wait() {
    pollfd wait{.fd = call.fd().get(), .events = POLLIN, .revents = 0};
    if (poll(&wait, 1, kStallMs) <= 0) {
      fprintf(stderr, "no interrupt for %d ms\n", kStallMs);
      return false;
    }
    call.Drain();
    ++wakes_;
    return true;
  }

  const Options options_;
  const memory::GuestMemory memory_;
  const uint64_t blocks_;
  std::mt19937_64 random_{1};
  uint64_t next_block_ = 0;
  uint16_t avail_ = 0;
  uint16_t published_ = 0;
  uint16_t used_ = 0;
  uint64_t done_ = 0;
  uint64_t wakes_ = 0;
};

template <typename T>
bool ParseNumber(const std::string& text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && out != 0;
}

std::optional<Options> Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const std::string value = argv[i + 1];
    bool good = true;
    if (name == "--socket") {
      options.socket = value;
    } else if (name == "--rw") {
      options.random = value.starts_with("rand");
      options.write = value.ends_with("write");
      good = value == "read" || value == "write" || value == "randread" || value == "randwrite";
    } else if (name == "--block-size") {
      good = ParseNumber(value, options.block_size) && options.block_size % kSector == 0;
    } else if (name == "--depth") {
      good = ParseNumber(value, options.depth) && options.depth <= kRingSize / kDescriptors;
    } else {
      good = name == "--seconds" && ParseNumber(value, options.seconds);
    }
    if (!good) return std::nullopt;
  }
  if (options.socket.empty() || argc % 2 == 0) return std::nullopt;
  return options;
}

Result<bool> Measure(const Options& options) {
  const std::unique_ptr<event::EventLoop> loop = TRY(event::EventLoop::Create());
  sys::UnixSocket socket = TRY(sys::UnixSocket::Connect(options.socket, sys::SocketType::kStream));
  vhost_user::FrontendOptions front{.name = options.socket};
  front.info = {.device_id = VIRTIO_ID_BLOCK,
                .queue_sizes = {kRingSize},
                .config_size = sizeof(virtio_blk_config)};
  const std::unique_ptr<vhost_user::Frontend> frontend =
      TRY(vhost_user::Frontend::Connect(*loop, std::move(socket), std::move(front)));
  std::array<uint8_t, 8> bytes{};
  TRY(frontend->ReadConfig(0, bytes));
  const uint64_t capacity = std::bit_cast<Le64>(bytes) * kSector;

  const uint64_t size = kData + uint64_t{options.depth} * options.block_size;
  const memory::RegionLayout layout[] = {{GuestAddr(0), *AlignUp<uint64_t>(size, 2 << 20)}};
  const memory::GuestMemory memory = TRY(memory::GuestMemory::Create(layout));
  Load load(options, memory, capacity);
  const virtio::QueueActivation queue{.index = 0,
                                      .size = kRingSize,
                                      .addresses = Load::kAddresses,
                                      .position = {},
                                      .kick = &load.kick,
                                      .call = &load.call};
  const uint64_t features = virtio::FeatureBit(VIRTIO_F_VERSION_1) |
                            virtio::FeatureBit(VIRTIO_RING_F_EVENT_IDX) |
                            virtio::FeatureBit(VIRTIO_BLK_F_FLUSH);
  TRY(frontend->Activate(memory, features & frontend->info().features, {&queue, 1}));
  const bool good = load.Run();
  TRY(frontend->Deactivate());
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  const std::optional<Options> options = Parse(argc, argv);
  if (!options) {
    fprintf(
        stderr,
        "usage: %s --socket PATH --rw randread|randwrite|read|write --block-size BYTES --depth N"
        " --seconds S\n",
        argv[0]);
    return 2;
  }
  const Result<bool> good = Measure(*options);
  if (!good.has_value()) {
    fprintf(stderr, "%s\n", good.error().ToString().c_str());
    return 1;
  }
  return *good ? 0 : 1;
}

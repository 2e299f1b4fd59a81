// Chains of any shape: as a request, and against a whole disk on a memfd. The first byte chooses
// the disk; then each chain is {descriptors, [length, length, direction], bytes of the header}.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "devices/block/block_device.h"
#include "event/test_loop.h"
#include "virtio/testing/driver.h"
#include "virtio/types.h"

namespace {

using namespace crosvm;
using virtio::testing::Driver;

constexpr uint64_t kDiskBytes = 64 << 10;

// Runs each operation at once, and answers from the loop: the parser and the bookkeeping are the
// point, not the kernel.
class DirectFile : public event::AsyncFile {
 public:
  DirectFile(event::EventLoop& loop, int fd) : loop_(loop), fd_(fd) {}
  void Submit(event::IoOp& op) override {
    op.result = 0;
    if (op.kind == event::IoKind::kRead || op.kind == event::IoKind::kWrite) {
      const bool read = op.kind == event::IoKind::kRead;
      const int count = static_cast<int>(op.buffers.size());
      const auto offset = static_cast<off_t>(op.offset);
      op.result = read ? preadv(fd_, op.buffers.data(), count, offset)
                       : pwritev(fd_, op.buffers.data(), count, offset);
      if (op.result < 0) op.result = -errno;
    } else if (op.kind == event::IoKind::kPunchHole || op.kind == event::IoKind::kWriteZeroes) {
      if (op.offset + op.length > kDiskBytes) __builtin_trap();
    }
    if (done_.empty()) loop_.Post([this] { Answer(); });
    done_.push_back(&op);
  }
  void Flush() override {}
  size_t in_flight() const override { return done_.size(); }
  const char* engine() const override { return "direct"; }

 private:
  void Answer() {
    for (event::IoOp* op : std::exchange(done_, {})) op->done(*op, op->context);
    EndBatch();
  }
  event::EventLoop& loop_;
  int fd_;
  std::vector<event::IoOp*> done_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int disk = [] {
    const int fd = memfd_create("disk", MFD_CLOEXEC);
    return ftruncate(fd, kDiskBytes) == 0 ? fd : -1;
  }();
  static const memory::GuestMemory memory = Driver::MakeMemory(4 << 20);
  if (size < 1) return 0;
  const uint8_t choice = data[0];
  std::span<const uint8_t> input(data + 1, size - 1);

  event::TestLoop loop;
  devices::block::BlockDevice device(loop, std::make_unique<DirectFile>(loop, disk),
                                     {.read_only = (choice & 1) != 0,
                                      .discard = (choice & 2) != 0,
                                      .id = (choice & 4) != 0 ? "id" : "",
                                      .capacity_bytes = kDiskBytes,
                                      .memory_alignment = (choice & 8) != 0 ? 512u : 1u});
  Driver driver(memory, {.size = 64, .packed = (choice & 16) != 0, .area_size = 3 << 20});
  device.Configure(driver.features() |
                   ((choice & 32) != 0 ? virtio::FeatureBit(VIRTIO_BLK_F_FLUSH) : 0));
  if (!device.StartQueue(0, driver.MakeQueue())) __builtin_trap();
  size_t submitted = 0;
  while (!input.empty() && submitted < 60) {
    auto chain = driver.Chain();
    const size_t count = 1 + input[0] % 5;
    input = input.subspan(1);
    bool any = false;
    for (size_t i = 0; i < count && input.size() >= 3; ++i) {
      const uint32_t length = input[0] + (uint32_t{input[1]} << 8);
      const bool writable = (input[2] & 1) != 0;
      input = input.subspan(3);
      if (writable) {
        chain.Writable(length);
      } else {
        const size_t given = std::min<size_t>(length, input.size());
        std::vector<uint8_t> bytes(length);
        if (given != 0) memcpy(bytes.data(), input.data(), given);
        input = input.subspan(std::min<size_t>(given, 64));
        chain.Readable(bytes);
      }
      any = true;
    }
    if (!any) break;
    chain.Indirect().Submit();
    ++submitted;
    if ((submitted & 7) == 0) {
      driver.Kick();
      loop.RunUntilIdle();
    }
    if (submitted * 5 * 65536 > (2u << 20)) break;  // the driver's area
  }
  driver.Kick();
  loop.RunUntilIdle();
  // Everything comes back, unless a chain broke the queue (a writable buffer before a readable one,
  // no bytes at all).
  bool stopped = false;
  device.StopQueue(0, [&](virtio::Queue queue) {
    if (queue.chains_in_flight() != 0) __builtin_trap();
    if (!queue.broken() && driver.AllUsed().size() != submitted) __builtin_trap();
    stopped = true;
  });
  loop.RunUntilIdle();
  if (!stopped) __builtin_trap();
  return 0;
}

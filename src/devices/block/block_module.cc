#include "devices/block/block_module.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <thread>

#include "base/log.h"
#include "codec/cbor.h"
#include "codec/fd_table.h"
#include "codec/key_value.h"
#include "config/block_options.h"
#include "devices/block/block_device.h"
#include "policies/block.h"
#include "sys/file.h"

namespace crosvm::devices::block {
namespace {

using config::BlockEngine;

// What travels from Prepare to Create.
struct BlockStart {
  codec::FdSlot image;
  bool ro = false;
  bool discard = false;
  uint32_t block_size = 512;
  std::string id;
  uint16_t queues = 1;
  BlockEngine engine = BlockEngine::kAuto;
  uint64_t capacity = 0;
  uint32_t memory_alignment = 1;

  static constexpr auto Describe() {
    return Fields(Field("image", &BlockStart::image).Required(), Field("ro", &BlockStart::ro),
                  Field("discard", &BlockStart::discard),
                  Field("block_size", &BlockStart::block_size), Field("id", &BlockStart::id),
                  Field("queues", &BlockStart::queues), Field("engine", &BlockStart::engine),
                  Field("capacity", &BlockStart::capacity),
                  Field("memory_alignment", &BlockStart::memory_alignment));
  }
};

Status CheckFileType(const sys::UniqueFd& fd, const std::string& path) {
  const struct stat status = TRY(sys::Stat(fd));
  if (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode)) return {};
  return Fail(ErrorKind::kInvalidArgument, "{} is not a regular file or a block device", path);
}

// Two writers destroy an image, and a writer pulls it from under a reader. The lock belongs to the
// open file description, so it lasts for as long as the VMM or the device process holds the image.
Status Lock(const sys::UniqueFd& fd, bool read_only, const std::string& path) {
  // The kernel lets go of an io_uring's file a moment after its process has ended, so one that ends
  // before this one starts may seem to use the image still.
  constexpr int kAttempts = 30;
  constexpr std::chrono::milliseconds kPause(10);
  for (int attempt = 1; flock(fd.get(), (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0;
       ++attempt) {
    if (errno != EWOULDBLOCK) return FailErrno("locking {}", path);
    if (attempt < kAttempts) {
      std::this_thread::sleep_for(kPause);
      continue;
    }
    return Fail(
        ErrorKind::kBusy,
        "{} is in use by another process; stop that VM, or open the image read-only in both", path);
  }
  return {};
}

// What O_DIRECT asks of addresses, offsets and lengths. Tried out, as not every file system tells.
uint32_t DirectAlignment(const sys::UniqueFd& fd) {
  constexpr uint32_t kLargest = 4096;
  alignas(kLargest) static std::array<uint8_t, 2 * kLargest> buffer;
  for (uint32_t alignment = 512; alignment < kLargest; alignment *= 2) {
    const ssize_t got =
        sys::RetryEintr([&] { return pread(fd.get(), buffer.data() + alignment, alignment, 0); });
    if (got >= 0) return alignment;
  }
  return kLargest;
}

Result<PreparedDevice> Prepare(std::string_view text) {
  const auto options = TRY(codec::ParseKeyValue<config::BlockOptions>(text));
  TRY(config::CheckBlockOptions(options));
  if (options.root) {
    return Fail(ErrorKind::kInvalidArgument,
                "root is for `crosvm run`, which sets the kernel's "
                "parameters; leave it out");
  }
  const int flags = (options.ro ? O_RDONLY : O_RDWR) | (options.direct ? O_DIRECT : 0);
  sys::UniqueFd image = TRY(sys::Open(options.path, flags));
  TRY(CheckFileType(image, options.path));
  TRY(Lock(image, options.ro, options.path));
  const uint64_t size = TRY_CONTEXT(sys::FileSize(image), "{}", options.path);
  if (size < kSectorBytes) {
    return Fail(ErrorKind::kInvalidArgument,
                "{} is {} bytes long, less than one sector; make an image with `truncate -s 1G {}`",
                options.path, size, options.path);
  }
  if (size % options.block_size != 0) {
    LOG_WARN("{}: {} bytes are not a multiple of the block size {}; the rest is not visible",
             options.path, size, options.block_size);
  }

  const uint32_t alignment = options.direct ? DirectAlignment(image) : 1;
  if (alignment > options.block_size) {
    return Fail(ErrorKind::kInvalidArgument,
                "{}: without the page cache (direct), its file system takes blocks of {} bytes and "
                "more; say block_size={} or leave out direct",
                options.path, alignment, alignment);
  }
  PreparedDevice prepared;
  const BlockStart start{
      .image = prepared.fds.Put(std::move(image)),
      .ro = options.ro,
      .discard = options.sparse && !options.ro,
      .block_size = options.block_size,
      .id = options.id,
      .queues = options.queues,
      .engine = options.engine,
      .capacity = size / options.block_size * options.block_size,
      .memory_alignment = alignment,
  };
  prepared.start = codec::ToCbor(start);
  return prepared;
}

// Of a disk in use: gives the image its new size. A block device has changed its own already.
Status BeforeControl(PreparedDevice& prepared, const ControlRequest& request) {
  const ResizeDisk* const resize = std::get_if<ResizeDisk>(&request);
  if (resize == nullptr) return {};
  BlockStart start = TRY(codec::FromCbor<BlockStart>(prepared.start, prepared.fds.size()));
  const sys::BorrowedFd image = prepared.fds.Borrow().at(start.image.index);
  if (start.ro) return Fail(ErrorKind::kPermissionDenied, "the disk is read-only");
  if (resize->bytes < start.block_size || resize->bytes > INT64_MAX) {
    return Fail(ErrorKind::kInvalidArgument, "{} bytes: a disk has at least one block of {} bytes",
                resize->bytes, start.block_size);
  }
  const struct stat status = TRY(sys::Stat(image));
  if (S_ISREG(status.st_mode)) {
    const auto bytes = static_cast<off_t>(resize->bytes);
    if (ftruncate(image.get(), bytes) != 0) return FailErrno("changing the size of the image");
    // Without holes from the start, without holes afterwards.
    if (!start.discard && fallocate(image.get(), 0, 0, bytes) != 0) {
      return FailErrno("reserving space for the image");
    }
  } else if (const uint64_t size = TRY(sys::FileSize(image)); size < resize->bytes) {
    return Fail(ErrorKind::kInvalidArgument,
                "the block device has {} bytes; change its size first, then the disk's", size);
  }
  start.capacity = resize->bytes / start.block_size * start.block_size;
  prepared.start = codec::ToCbor(start);
  return {};
}

event::IoEngine EngineOf(BlockEngine engine) {
  switch (engine) {
    case BlockEngine::kAuto:
      return event::IoEngine::kAuto;
    case BlockEngine::kUring:
      return event::IoEngine::kUring;
    case BlockEngine::kPool:
      return event::IoEngine::kPool;
  }
  return event::IoEngine::kAuto;
}

Result<std::unique_ptr<virtio::Device>> Create(PreparedDevice prepared,
                                               const CreateContext& context) {
  const BlockStart start = TRY(codec::FromCbor<BlockStart>(prepared.start, prepared.fds.size()));
  sys::UniqueFd image = TRY(prepared.fds.Take(start.image));
  std::unique_ptr<event::AsyncFile> file =
      TRY(event::OpenAsyncFile(context.loop, std::move(image), {.engine = EngineOf(start.engine)}));
  LOG_DEBUG("{} bytes through {}", start.capacity, file->engine());
  return std::make_unique<BlockDevice>(context.loop, std::move(file),
                                       DeviceOptions{.read_only = start.ro,
                                                     .discard = start.discard,
                                                     .block_size = start.block_size,
                                                     .id = start.id,
                                                     .queues = start.queues,
                                                     .capacity_bytes = start.capacity,
                                                     .memory_alignment = start.memory_alignment});
}

}  // namespace

const DeviceModule kBlockModule = {
    .name = "block",
    .summary = "a disk from a raw image or a block device (virtio-blk)",
    .option_help =
        "PATH[,ro][,sparse=BOOL][,block_size=BYTES][,id=TEXT][,direct][,queues=N]"
        "[,engine=auto|io_uring|pool]",
    .prepare = &Prepare,
    .create = &Create,
    .before_control = &BeforeControl,
    .policy = policies::kBlock,
};

}  // namespace crosvm::devices::block

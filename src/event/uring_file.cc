#include "event/uring_file.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/log.h"
#include "event/io_step.h"

namespace crosvm::event {
namespace {

constexpr uint32_t kMaxDepth = 4096;
constexpr std::chrono::milliseconds kRetryDelay(1);
// From this size on, copying from the page cache takes longer than waking a worker of the kernel:
// while other operations wait too, the copies then run side by side and the loop goes on. Writes
// would not: they hold the file's lock.
constexpr uint64_t kAsyncBytes = 256 << 10;
constexpr int kBatchesPerTurn = 4;

std::unexpected<Error> FailUring(int result, const char* doing) {
  return std::unexpected(Error::FromErrno(-result, doing));
}

io_uring_restriction Restriction(uint16_t opcode, uint8_t value) {
  io_uring_restriction out{};
  out.opcode = opcode;
  // The fields of the kernel's union share one byte.
  out.sqe_op = value;
  return out;
}

}  // namespace

void UringFile::OpList::Push(IoOp& op) {
  op.internal.next = nullptr;
  (first == nullptr ? first : last->internal.next) = &op;
  last = &op;
}

IoOp& UringFile::OpList::Pop() {
  IoOp& op = *first;
  first = op.internal.next;
  return op;
}

Result<std::unique_ptr<AsyncFile>> UringFile::Open(EventLoop& loop, sys::BorrowedFd file,
                                                   const AsyncFileOptions& options) {
  std::unique_ptr<UringFile> out(new UringFile(loop));
  TRY(out->Init(file, options.depth));
  return out;
}

UringFile::~UringFile() {
  CHECK(in_flight_ == 0, "{} operations in flight", in_flight_);
  if (destroyed_ != nullptr) *destroyed_ = true;
  watch_.Reset();
  if (ring_made_) io_uring_queue_exit(&ring_);
}

Status UringFile::Init(sys::BorrowedFd file, uint32_t depth) {
  const uint32_t entries = std::clamp<uint32_t>(depth, 1, kMaxDepth);
  io_uring_params params{};
  // Completions then wait for this thread's next system call instead of interrupting it.
  params.flags = IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP | IORING_SETUP_COOP_TASKRUN;
  int result = io_uring_queue_init_params(entries, &ring_, &params);
  if (result == -EINVAL) {  // a kernel before 5.19
    params = {};
    params.flags = IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP;
    result = io_uring_queue_init_params(entries, &ring_, &params);
  }
  if (result < 0) return FailUring(result, "creating an io_uring");
  ring_made_ = true;
  depth_ = std::min(entries, params.sq_entries);
  const int fd = file.get();
  result = io_uring_register_files(&ring_, &fd, 1);
  if (result < 0) return FailUring(result, "registering a file with io_uring");
  TRY(Restrict());
  result = io_uring_enable_rings(&ring_);
  if (result < 0) return FailUring(result, "enabling an io_uring");
  watch_ = TRY(
      loop_.AddWatch(sys::BorrowedFd(ring_.ring_fd), Interest::kRead, [this](Ready) { Reap(); }));
  return {};
}

Status UringFile::Restrict() {
  std::array restrictions = {
      Restriction(IORING_RESTRICTION_SQE_OP, IORING_OP_READV),
      Restriction(IORING_RESTRICTION_SQE_OP, IORING_OP_WRITEV),
      Restriction(IORING_RESTRICTION_SQE_OP, IORING_OP_FSYNC),
      Restriction(IORING_RESTRICTION_SQE_OP, IORING_OP_FALLOCATE),
      Restriction(IORING_RESTRICTION_SQE_FLAGS_ALLOWED, IOSQE_FIXED_FILE | IOSQE_ASYNC),
      Restriction(IORING_RESTRICTION_SQE_FLAGS_REQUIRED, IOSQE_FIXED_FILE),
  };
  // No IORING_RESTRICTION_REGISTER_OP: nothing can be registered any more, so the file stays the
  // only one.
  const int result =
      io_uring_register_restrictions(&ring_, restrictions.data(), restrictions.size());
  if (result < 0) return FailUring(result, "restricting an io_uring");
  return {};
}

void UringFile::Submit(IoOp& op) {
  ++in_flight_;
  if (!Begin(op)) {
    rejected_.Push(op);
    if (!rejected_timer_.active()) {
      rejected_timer_ = loop_.AddTimer(Clock::duration::zero(), [this] { OnRejected(); });
    }
  } else if (in_ring_ < depth_ && waiting_.empty()) {
    Prepare(op);
  } else {
    waiting_.Push(op);
  }
}

void UringFile::Prepare(IoOp& op) {
  ++in_ring_;
  io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
  CHECK(sqe != nullptr);
  const IoStep step = NextStep(op);
  constexpr int kFileIndex = 0;
  const auto count = static_cast<unsigned>(step.buffers.size());
  switch (step.call) {
    case IoStep::Call::kReadv:
      io_uring_prep_readv(sqe, kFileIndex, step.buffers.data(), count, step.offset);
      break;
    case IoStep::Call::kWritev:
      io_uring_prep_writev(sqe, kFileIndex, step.buffers.data(), count, step.offset);
      break;
    case IoStep::Call::kFsync:
      io_uring_prep_fsync(sqe, kFileIndex, 0);
      break;
    case IoStep::Call::kFdatasync:
      io_uring_prep_fsync(sqe, kFileIndex, IORING_FSYNC_DATASYNC);
      break;
    case IoStep::Call::kFallocate:
      io_uring_prep_fallocate(sqe, kFileIndex, step.mode, static_cast<off_t>(step.offset),
                              static_cast<off_t>(step.length));
      break;
  }
  const bool reads = step.call == IoStep::Call::kReadv;
  const bool async = reads && in_ring_ > 1 && op.internal.total >= kAsyncBytes;
  io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE | (async ? IOSQE_ASYNC : 0));
  io_uring_sqe_set_data(sqe, &op);
}

void UringFile::Flush() {
  while (io_uring_sq_ready(&ring_) > 0) {
    const int result = io_uring_submit(&ring_);
    if (result > 0 || result == -EINTR) continue;
    // The kernel is short of memory (EAGAIN) or of room for completions (EBUSY), which the loop
    // will soon make.
    LOG_WARN_EVERY(std::chrono::seconds(1), "io_uring takes no requests now (error {})", -result);
    retry_timer_ = loop_.AddTimer(kRetryDelay, [this] { Flush(); });
    return;
  }
}

bool UringFile::Reap() {
  // What the batch's end submits has often ended by the time it is handed over. The bound leaves
  // the rest to the loop's next turn, so that others get theirs.
  int batch = 0;
  for (; batch < kBatchesPerTurn && io_uring_cq_ready(&ring_) > 0; ++batch) {
    if (!DeliverBatch()) return true;
  }
  return batch > 0;
}

bool UringFile::DeliverBatch() {
  // Taken out of the ring before any callback: those may submit, or destroy this object.
  std::array<io_uring_cqe*, 64> cqes;
  const unsigned count = io_uring_peek_batch_cqe(&ring_, cqes.data(), cqes.size());
  OpList ended;
  OpList again;
  for (unsigned i = 0; i < count; ++i) {
    auto& op = *static_cast<IoOp*>(io_uring_cqe_get_data(cqes[i]));
    (Finish(op, cqes[i]->res) ? ended : again).Push(op);
  }
  io_uring_cq_advance(&ring_, count);
  in_ring_ -= count;
  while (!again.empty()) Prepare(again.Pop());
  while (in_ring_ < depth_ && !waiting_.empty()) Prepare(waiting_.Pop());
  while (!ended.empty()) {
    if (!Complete(ended.Pop())) return false;
  }
  EndBatch();
  Flush();
  return true;
}

void UringFile::OnRejected() {
  rejected_timer_.Reset();
  OpList rejected = std::exchange(rejected_, {});
  while (!rejected.empty()) {
    if (!Complete(rejected.Pop())) return;
  }
  EndBatch();
  Flush();
}

bool UringFile::Complete(IoOp& op) {
  bool destroyed = false;
  destroyed_ = &destroyed;
  --in_flight_;
  op.done(op, op.context);
  if (!destroyed) destroyed_ = nullptr;
  return !destroyed;
}

}  // namespace crosvm::event

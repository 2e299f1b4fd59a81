#include "event/pool_file.h"

#include "base/check.h"
#include "event/io_step.h"

namespace crosvm::event {

Result<std::unique_ptr<AsyncFile>> PoolFile::Open(EventLoop& loop, sys::UniqueFd file,
                                                  const AsyncFileOptions& options) {
  std::unique_ptr<PoolFile> out(new PoolFile);
  out->file_ = std::move(file);
  out->done_event_ = TRY(sys::EventFd::CreatePrivate());
  PoolFile* const self = out.get();
  out->watch_ =
      TRY(loop.AddWatch(out->done_event_.fd(), Interest::kRead, [self](Ready) { self->OnDone(); }));
  out->pool_ = TRY(ThreadPool::Create(options.pool_threads, "file-io"));
  return out;
}

PoolFile::~PoolFile() {
  CHECK(in_flight_ == 0, "{} operations in flight", in_flight_);
  if (destroyed_ != nullptr) *destroyed_ = true;
}

void PoolFile::Submit(IoOp& op) {
  ++in_flight_;
  pool_->Run([this, &op] { RunOp(op); });
}

void PoolFile::RunOp(IoOp& op) {
  if (Begin(op)) {
    while (!Finish(op, RunStep(file_, NextStep(op)))) {
    }
  }
  bool first = false;
  {
    MutexLock lock(mutex_);
    first = done_ == nullptr;
    op.internal.next = done_;
    done_ = &op;
  }
  if (first) done_event_.Signal();
}

void PoolFile::OnDone() {
  done_event_.Drain();
  IoOp* newest = nullptr;
  {
    MutexLock lock(mutex_);
    newest = std::exchange(done_, nullptr);
  }
  IoOp* oldest = nullptr;
  while (newest != nullptr) {
    IoOp* const next = std::exchange(newest->internal.next, oldest);
    oldest = newest;
    newest = next;
  }
  bool destroyed = false;
  destroyed_ = &destroyed;
  while (oldest != nullptr) {
    IoOp& op = *oldest;
    oldest = op.internal.next;
    --in_flight_;
    op.done(op, op.context);
    // Only the last callback may: in_flight_ was not zero before.
    if (destroyed) return;
  }
  destroyed_ = nullptr;
  EndBatch();
}

}  // namespace crosvm::event

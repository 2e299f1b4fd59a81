// AsyncFile by io_uring: one ring per file, restricted to its opcodes and its one registered file.
#pragma once

#include <liburing.h>

#include "event/async_file.h"

namespace crosvm::event {

class UringFile : public AsyncFile {
 public:
  // Fails where the host has no io_uring or forbids it.
  static Result<std::unique_ptr<AsyncFile>> Open(EventLoop& loop, sys::BorrowedFd file,
                                                 const AsyncFileOptions& options);
  ~UringFile() override;

  void Submit(IoOp& op) override;
  void Flush() override;
  bool Reap() override;
  size_t in_flight() const override { return in_flight_; }
  const char* engine() const override { return "io_uring"; }

 private:
  // First in, first out, through IoOp::internal.next.
  struct OpList {
    IoOp* first = nullptr;
    IoOp* last = nullptr;
    bool empty() const { return first == nullptr; }
    void Push(IoOp& op);
    IoOp& Pop();
  };

  explicit UringFile(EventLoop& loop) : loop_(loop) {}
  Status Init(sys::BorrowedFd file, uint32_t depth);
  Status Restrict();
  void Prepare(IoOp& op);
  // Delivers one batch; false when a callback has destroyed this object.
  bool DeliverBatch();
  void OnRejected();
  // False when the callback has destroyed this object.
  bool Complete(IoOp& op);

  EventLoop& loop_;
  io_uring ring_{};
  bool ring_made_ = false;
  uint32_t depth_ = 0;
  size_t in_flight_ = 0;
  // Prepared or with the kernel; never more than depth_, so that neither queue of the ring can
  // overflow.
  uint32_t in_ring_ = 0;
  OpList waiting_;
  // Refused by Begin(), to be reported from the loop.
  OpList rejected_;
  bool* destroyed_ = nullptr;
  Watch watch_;
  Timer rejected_timer_;
  Timer retry_timer_;
};

}  // namespace crosvm::event

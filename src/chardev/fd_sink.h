// A sink over a descriptor: terminal, file, pipe or connected stream socket. Writers only append to
// a bounded buffer; the loop's thread writes it out without blocking, so a stopped terminal never
// holds a vCPU.
#pragma once

#include <memory>

#include "base/result.h"
#include "chardev/char_sink.h"
#include "event/event_loop.h"
#include "sys/fd.h"

namespace crosvm::chardev {

class FdSink : public CharSink {
 public:
  static constexpr size_t kDefaultBufferBytes = 64 * 1024;

  // `name` is for messages: "serial 1". Once the descriptor fails (EPIPE, EIO) a warning is logged
  // and everything is swallowed from then on.
  static Result<std::unique_ptr<FdSink>> Create(event::EventLoop& loop, sys::UniqueFd fd,
                                                std::string name,
                                                size_t buffer_bytes = kDefaultBufferBytes);
  ~FdSink() override;

  size_t Write(std::span<const uint8_t> data) override;
  void OnRoom(std::function<void()> callback) override;
  void Finish(std::chrono::milliseconds timeout) override;

 private:
  struct State;
  explicit FdSink(std::shared_ptr<State> state);

  std::shared_ptr<State> state_;
};

}  // namespace crosvm::chardev

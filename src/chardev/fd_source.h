// A source over a descriptor: terminal, file, pipe, FIFO or connected stream socket.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "chardev/char_source.h"
#include "event/event_loop.h"
#include "sys/fd.h"

namespace crosvm::chardev {

class FdSource : public CharSource {
 public:
  // Takes the descriptor; nothing is read before Start(). `name` is for messages. At the end of the
  // input (or an error of it) the source falls silent.
  static Result<std::unique_ptr<FdSource>> Create(event::EventLoop& loop, sys::UniqueFd fd,
                                                  std::string name);
  ~FdSource() override;

  void Start(Consume consume) override;
  void Resume() override;

 private:
  struct State;
  explicit FdSource(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace crosvm::chardev

// Where a pair of queues is worked on: the device's own loop, or a loop on a thread of the pair's.
// Made and used on the device's loop.
#pragma once

#include <functional>
#include <memory>
#include <thread>

#include "base/result.h"
#include "devices/net/queue_pair.h"
#include "event/event_loop.h"

namespace crosvm::devices::net {

class PairThread {
 public:
  // On `loop`, which outlives this.
  PairThread(event::EventLoop& loop, std::unique_ptr<PacketPort> port);
  // On a thread called `name`.
  static Result<std::unique_ptr<PairThread>> Start(std::unique_ptr<PacketPort> port,
                                                   std::string name);
  // Ends the thread. No queue of the pair runs any more, or the process ends.
  ~PairThread();

  // Runs `work` on the pair's loop: at once when that is the device's, otherwise soon and in the
  // order of the calls.
  void Run(std::function<void(QueuePair&)> work);
  bool threaded() const { return loop_ != nullptr; }

  // Of the pair on the device's own loop only.
  QueuePair& here();
  // From any thread.
  const PairCounters& counters() const { return pair_->counters(); }

 private:
  PairThread() = default;

  std::unique_ptr<event::EventLoop> loop_;  // null: the device's
  std::unique_ptr<QueuePair> pair_;
  std::thread thread_;
};

}  // namespace crosvm::devices::net

#include "devices/net/pair_thread.h"

#include <pthread.h>

#include "base/check.h"
#include "base/log.h"

namespace crosvm::devices::net {

PairThread::PairThread(event::EventLoop& loop, std::unique_ptr<PacketPort> port)
    : pair_(std::make_unique<QueuePair>(loop, std::move(port))) {
}

Result<std::unique_ptr<PairThread>> PairThread::Start(std::unique_ptr<PacketPort> port,
                                                      std::string name) {
  std::unique_ptr<PairThread> self(new PairThread);
  self->loop_ = TRY(event::EventLoop::Create());
  // Made before the thread, which is the only one to use it from its start on.
  self->pair_ = std::make_unique<QueuePair>(*self->loop_, std::move(port));
  self->thread_ = std::thread([loop = self->loop_.get(), name = std::move(name)] {
    pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
    const Status ran = loop->Run();
    if (!ran.has_value()) LOG_ERROR("{}: {}", name, ran.error().ToString());
  });
  return self;
}

PairThread::~PairThread() {
  if (!thread_.joinable()) return;
  loop_->Stop();
  thread_.join();
  // What was posted and not run may hold queues of the pair.
  pair_.reset();
}

void PairThread::Run(std::function<void(QueuePair&)> work) {
  if (!threaded()) {
    work(*pair_);
    return;
  }
  loop_->Post([work = std::move(work), pair = pair_.get()] { work(*pair); });
}

QueuePair& PairThread::here() {
  CHECK(!threaded());
  return *pair_;
}

}  // namespace crosvm::devices::net

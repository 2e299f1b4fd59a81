// What one wake-up of the loop costs, and one file read through each engine.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <array>

#include "base/check.h"
#include "event/async_file.h"
#include "event/event_loop.h"
#include "sys/event_fd.h"
#include "sys/memfd.h"

namespace crosvm::event {
namespace {

// A doorbell that is rung and drained: a kick of a queue without its work.
void BM_WakeByEventFd(benchmark::State& state) {
  const auto loop = EventLoop::Create().value();
  std::vector<sys::EventFd> events;
  std::vector<Watch> watches;
  for (int64_t i = 0; i < state.range(0); ++i) {
    events.push_back(sys::EventFd::CreatePrivate().value());
    const auto index = static_cast<size_t>(i);
    watches.push_back(loop->AddWatch(events.back().fd(), Interest::kRead,
                                     [&events, index](Ready) { events[index].Drain(); })
                          .value());
  }
  size_t next = 0;
  for (auto _ : state) {
    events[next].Signal();
    next = (next + 1) % events.size();
    CHECK(loop->RunOnce(Clock::duration::zero()).has_value());
  }
}
BENCHMARK(BM_WakeByEventFd)->Arg(1)->Arg(64);

void BM_Post(benchmark::State& state) {
  const auto loop = EventLoop::Create().value();
  uint64_t ran = 0;
  for (auto _ : state) {
    loop->Post([&ran] { ++ran; });
    CHECK(loop->RunOnce(Clock::duration::zero()).has_value());
  }
  CHECK(ran == static_cast<uint64_t>(state.iterations()));
}
BENCHMARK(BM_Post);

void BM_ArmAndCancelTimer(benchmark::State& state) {
  const auto loop = EventLoop::Create().value();
  for (auto _ : state) {
    const Timer timer = loop->AddTimer(std::chrono::hours(1), [] {});
    benchmark::DoNotOptimize(&timer);
  }
}
BENCHMARK(BM_ArmAndCancelTimer);

// `batch` reads of 4 KiB from memory: the engine's own cost, without a disk.
void ReadBatches(benchmark::State& state, IoEngine engine) {
  constexpr size_t kBytes = 4096;
  const auto batch = static_cast<size_t>(state.range(0));
  const auto loop = EventLoop::Create().value();
  auto file = OpenAsyncFile(*loop, sys::CreateSealedMemfd("bench", kBytes * batch).value(),
                            {.engine = engine});
  if (!file) {
    state.SkipWithError(file.error().ToString().c_str());
    return;
  }
  std::vector<uint8_t> data(kBytes * batch);
  std::vector<iovec> buffers(batch);
  std::vector<IoOp> ops(batch);
  size_t left = 0;
  for (auto _ : state) {
    left = batch;
    for (size_t i = 0; i < batch; ++i) {
      buffers[i] = {data.data() + i * kBytes, kBytes};
      ops[i].offset = i * kBytes;
      ops[i].buffers = std::span(&buffers[i], 1);
      ops[i].context = &left;
      ops[i].done = [](IoOp&, void* context) { --*static_cast<size_t*>(context); };
      (*file)->Submit(ops[i]);
    }
    (*file)->Flush();
    while (left > 0) CHECK(loop->RunOnce(std::chrono::seconds(1)).has_value());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK_CAPTURE(ReadBatches, io_uring, IoEngine::kUring)->Arg(1)->Arg(32);
BENCHMARK_CAPTURE(ReadBatches, pool, IoEngine::kPool)->Arg(1)->Arg(32);

}  // namespace
}  // namespace crosvm::event

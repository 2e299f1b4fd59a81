// One request through a queue: submit, pop, complete, publish, reap. The driver's part is in the
// figure; the test driver is slower than a guest's.
#include <benchmark/benchmark.h>

#include "virtio/queue.h"
#include "virtio/testing/driver.h"

namespace {

using namespace crosvm;

// The device's part alone: a batch is made available before the clock starts.
void PopComplete(benchmark::State& state) {
  const memory::GuestMemory memory = virtio::testing::Driver::MakeMemory();
  const auto batch = static_cast<int>(state.range(1));
  virtio::testing::Driver driver(memory,
                                 {.size = 256, .packed = state.range(0) != 0, .event_idx = true});
  virtio::Queue queue = driver.MakeQueue();
  for (auto _ : state) {
    state.PauseTiming();
    for (int i = 0; i < batch; ++i)
      driver.Chain().Readable("0123456789abcdef").Writable(512).Writable(1).Stage();
    driver.Publish();
    state.ResumeTiming();
    while (std::optional<virtio::Chain> chain = queue.Pop()) queue.Complete(*std::move(chain), 513);
    queue.Flush();
    state.PauseTiming();
    driver.AllUsed();
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * batch);
}
BENCHMARK(PopComplete)->ArgNames({"packed", "batch"})->Args({0, 64})->Args({1, 64});

}  // namespace

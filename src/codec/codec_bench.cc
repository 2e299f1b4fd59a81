#include <benchmark/benchmark.h>

#include "codec/cbor.h"
#include "codec/json.h"
#include "codec/key_value.h"
#include "codec/test_types.h"

namespace {

using namespace crosvm::codec;

test_types::Attach Message() {
  test_types::Attach attach = {.image = {0}};
  for (int i = 0; i < 4; ++i) attach.disks.push_back({.path = "/var/lib/images/root.img"});
  return attach;
}

void BM_WriteCbor(benchmark::State& state) {
  const test_types::Command message = Message();
  for (auto _ : state) benchmark::DoNotOptimize(ToCbor(message));
}
BENCHMARK(BM_WriteCbor);

void BM_ReadCbor(benchmark::State& state) {
  const auto bytes = ToCbor<test_types::Command>(Message());
  for (auto _ : state) benchmark::DoNotOptimize(FromCbor<test_types::Command>(bytes, 1));
}
BENCHMARK(BM_ReadCbor);

void BM_WriteJson(benchmark::State& state) {
  const test_types::Command message = Message();
  for (auto _ : state) benchmark::DoNotOptimize(ToJson(message));
}
BENCHMARK(BM_WriteJson);

void BM_ReadJson(benchmark::State& state) {
  const auto text = ToJson<test_types::Command>(Message());
  for (auto _ : state) benchmark::DoNotOptimize(FromJson<test_types::Command>(text, 1));
}
BENCHMARK(BM_ReadJson);

void BM_KeyValue(benchmark::State& state) {
  for (auto _ : state) {
    benchmark::DoNotOptimize(ParseKeyValue<test_types::Disk>("/root.img,ro,queues=4,id=boot"));
  }
}
BENCHMARK(BM_KeyValue);

}  // namespace

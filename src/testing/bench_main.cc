// main() of every bench. Not the main() of libbenchmark: when no bitcode symbol is used from
// outside, clang 19's ThinLTO computes no liveness and leaves callbacks of other files out of the
// control-flow integrity tables, and calling them traps.
#include <benchmark/benchmark.h>

BENCHMARK_MAIN();

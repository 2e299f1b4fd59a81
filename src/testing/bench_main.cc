// main() of every bench. The one of the benchmark library is compiled without CFI's type
// information, so that the calls back into our code would trap.
#include <benchmark/benchmark.h>

BENCHMARK_MAIN();

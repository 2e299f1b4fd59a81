// The policy parser on any text, and the compiler against the reference evaluator for what parses.
#include <cstdlib>

#include "base/check.h"
#include "jail/compiler.h"
#include "jail/evaluator.h"
#include "jail/filter.h"
#include "jail/testing/bpf_interpreter.h"

using crosvm::Fail;
using crosvm::Result;
using namespace crosvm::jail;

namespace {

uint64_t next_random = 1;
uint64_t Random() {
  next_random = next_random * 6364136223846793005U + 1442695040888963407U;
  return next_random >> 16;
}

seccomp_data RandomCall(const Policy& policy) {
  seccomp_data call{};
  call.arch = AuditArch(policy.arch);
  call.nr = static_cast<int>(Random() % 470);
  if (!policy.rules.empty() && Random() % 4 != 0) {
    const Rule& rule = policy.rules[Random() % policy.rules.size()];
    call.nr = static_cast<int>(rule.number);
    for (const AllOf& all : rule.any) {
      for (const Comparison& test : all) call.args[test.argument] = test.value + Random() % 3 - 1;
    }
  }
  if (Random() % 4 == 0) call.args[Random() % 6] = Random() << (Random() % 40);
  return call;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 16384) return 0;
  // SAFETY: bytes seen as characters.
  const PolicyText file{.name = "f",
                        .text = std::string(reinterpret_cast<const char*>(data), size)};
  const auto reader = [&](const std::string& path, const std::string&) -> Result<PolicyText> {
    if (path == "f") return file;
    if (path == "g") return PolicyText{.name = "g", .text = "read: 12\nwrite: 3\n"};
    return Fail(crosvm::ErrorKind::kNotFound, "no {}", path);
  };
  for (const Arch arch : {Arch::kX86_64, Arch::kAarch64}) {
    const Result<Policy> policy = ParsePolicy({&file, 1}, arch, reader);
    if (!policy.has_value()) continue;
    const Result<std::vector<sock_filter>> code = CompilePolicy(*policy);
    if (!code.has_value()) continue;
    next_random = size;
    for (int i = 0; i < 32; ++i) {
      const seccomp_data call = RandomCall(*policy);
      const auto value = crosvm::jail::testing::RunBpf(*code, call);
      CHECK(value.has_value() && *value == EvaluatePolicy(*policy, call));
    }
  }
  return 0;
}

// Runs a classic BPF program as seccomp(2) would: tests and fuzzers compare its verdicts with the
// reference evaluator.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cstddef>
#include <cstring>
#include <optional>
#include <span>

namespace crosvm::jail::testing {

// Empty when the program leaves its bounds or has an instruction that policies do not compile to.
// `steps`: the number of instructions run.
inline std::optional<uint32_t> RunBpf(std::span<const sock_filter> code, const seccomp_data& call,
                                      size_t* steps = nullptr) {
  uint32_t accumulator = 0;
  size_t at = 0;
  while (at < code.size()) {
    const sock_filter& step = code[at++];
    if (steps != nullptr) ++*steps;
    bool holds = false;
    switch (step.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (step.k % 4 != 0 || step.k + 4 > sizeof(call)) return std::nullopt;
        // SAFETY: bounds checked above.
        memcpy(&accumulator, reinterpret_cast<const char*>(&call) + step.k, sizeof(accumulator));
        continue;
      case BPF_RET | BPF_K:
        return step.k;
      case BPF_JMP | BPF_JA:
        at += step.k;
        continue;
      case BPF_JMP | BPF_JEQ | BPF_K:
        holds = accumulator == step.k;
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        holds = accumulator > step.k;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        holds = accumulator >= step.k;
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        holds = (accumulator & step.k) != 0;
        break;
      default:
        return std::nullopt;
    }
    at += holds ? step.jt : step.jf;
  }
  return std::nullopt;
}

}  // namespace crosvm::jail::testing

#include "jail/evaluator.h"

#include <algorithm>

#include "jail/filter.h"

namespace crosvm::jail {
namespace {

bool Holds(const Comparison& test, const seccomp_data& call) {
  const uint64_t value = call.args[test.argument];
  switch (test.op) {
    case Operator::kEqual:
      return value == test.value;
    case Operator::kNotEqual:
      return value != test.value;
    case Operator::kLess:
      return value < test.value;
    case Operator::kLessEqual:
      return value <= test.value;
    case Operator::kGreater:
      return value > test.value;
    case Operator::kGreaterEqual:
      return value >= test.value;
    case Operator::kAny:
      return (value & test.value) != 0;
    case Operator::kIn:
      return (value & ~test.value) == 0;
  }
  return false;
}

uint32_t ValueOf(Action action) {
  switch (action.kind) {
    case Action::Kind::kDefault:
    case Action::Kind::kDeny:
      return kReturnDenied;
    case Action::Kind::kAllow:
      return SECCOMP_RET_ALLOW;
    case Action::Kind::kLog:
      return SECCOMP_RET_LOG;
    case Action::Kind::kErrno:
      return SECCOMP_RET_ERRNO | action.error;
    case Action::Kind::kKillThread:
      return SECCOMP_RET_KILL_THREAD;
    case Action::Kind::kKillProcess:
      return SECCOMP_RET_KILL_PROCESS;
  }
  return kReturnDenied;
}

}  // namespace

uint32_t EvaluatePolicy(const Policy& policy, const seccomp_data& call) {
  const auto number = static_cast<uint32_t>(call.nr);
  const bool is_x32 = policy.arch == Arch::kX86_64 && number >= 0x40000000;
  if (call.arch != AuditArch(policy.arch) || is_x32) return kReturnForeign;
  for (const Rule& rule : policy.rules) {
    if (rule.number != number) continue;
    for (const AllOf& all : rule.any) {
      if (std::all_of(all.begin(), all.end(),
                      [&](const Comparison& test) { return Holds(test, call); })) {
        return SECCOMP_RET_ALLOW;
      }
    }
    return ValueOf(rule.otherwise == Action{} ? policy.fallback : rule.otherwise);
  }
  return ValueOf(policy.fallback);
}

}  // namespace crosvm::jail

#include "jail/compiler.h"

#include <linux/seccomp.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>

#include "base/check.h"
#include "jail/filter.h"

namespace crosvm::jail {
namespace {

constexpr uint32_t kX32Bit = 0x40000000;

// Emits a program from its end to its beginning: BPF jumps forward only, so every target is already
// there and its distance known, and a jump of more than a byte's reach gets its long jump on the
// spot.
class BackwardEmitter {
 public:
  // A place in the program, counted from its end.
  using Label = size_t;

  // The number of the instruction emitted last, which is where control goes on from the one emitted
  // next.
  Label Here() const { return code_.size(); }

  Label Return(uint32_t value) {
    code_.push_back(BPF_STMT(BPF_RET | BPF_K, value));
    return Here();
  }

  Label Load(uint32_t offset) {
    code_.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset));
    return Here();
  }

  Label Jump(uint16_t condition, uint32_t value, Label if_true, Label if_false) {
    // A long jump for one may push the other out of reach; the second look catches that.
    if (!Reaches(if_true)) if_true = LongJump(if_true);
    if (!Reaches(if_false)) if_false = LongJump(if_false);
    if (!Reaches(if_true)) if_true = LongJump(if_true);
    code_.push_back(BPF_JUMP(static_cast<uint16_t>(BPF_JMP | condition | BPF_K), value,
                             static_cast<uint8_t>(Distance(if_true)),
                             static_cast<uint8_t>(Distance(if_false))));
    return Here();
  }

  // Makes `label` what runs next, if it is not.
  Label Continue(Label label) { return label == Here() ? label : LongJump(label); }

  std::vector<sock_filter> Finish() && {
    std::reverse(code_.begin(), code_.end());
    return std::move(code_);
  }

 private:
  static constexpr size_t kReach = 255;

  size_t Distance(Label label) const { return Here() - label; }
  bool Reaches(Label label) const { return Distance(label) <= kReach; }

  Label LongJump(Label label) {
    const sock_filter target = code_[label - 1];
    // A return is as short as a jump to it.
    if (BPF_CLASS(target.code) == BPF_RET) {
      code_.push_back(target);
    } else {
      code_.push_back(BPF_STMT(BPF_JMP | BPF_JA, static_cast<uint32_t>(Distance(label))));
    }
    return Here();
  }

  std::vector<sock_filter> code_;
};

using Label = BackwardEmitter::Label;

constexpr uint32_t kLow32 = 0xffffffff;
uint32_t Low(uint64_t value) {
  return static_cast<uint32_t>(value & kLow32);
}
uint32_t High(uint64_t value) {
  return static_cast<uint32_t>(value >> 32);
}

uint32_t ReturnValue(Action action) {
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

// Numbers from `first` up to the next range's that are treated alike.
struct Range {
  uint32_t first;
  uint64_t weight;
  const Rule* rule;  // null: the fallback
};

class Compiler {
 public:
  explicit Compiler(const Policy& policy) : policy_(policy) {}

  Result<std::vector<sock_filter>> Compile() {
    // The returns that nearly every jump has as its target come last, that is first.
    const Label foreign = out_.Return(kReturnForeign);
    const std::vector<Range> ranges = Ranges();
    const Label tree = Tree(ranges);
    if (policy_.arch == Arch::kX86_64) {
      out_.Jump(BPF_JGE, kX32Bit, foreign, tree);
    } else {
      out_.Continue(tree);
    }
    const Label start = out_.Load(offsetof(seccomp_data, nr));
    out_.Jump(BPF_JEQ, AuditArch(policy_.arch), start, foreign);
    out_.Load(offsetof(seccomp_data, arch));
    std::vector<sock_filter> code = std::move(out_).Finish();
    if (code.size() > BPF_MAXINSNS) {
      return Fail(ErrorKind::kInvalidArgument,
                  "the policy needs {} instructions; the kernel takes at most {}", code.size(),
                  BPF_MAXINSNS);
    }
    return code;
  }

 private:
  static bool SameBody(const Rule* a, const Rule* b) {
    if (a == nullptr || b == nullptr) return a == b;
    return a->any == b->any && a->otherwise == b->otherwise;
  }

  std::vector<Range> Ranges() const {
    std::vector<Range> ranges;
    const auto add = [&](uint32_t first, uint64_t weight, const Rule* rule) {
      // The gap after the rule before, if there is none.
      if (!ranges.empty() && ranges.back().first == first) ranges.pop_back();
      if (!ranges.empty() && SameBody(ranges.back().rule, rule)) {
        ranges.back().weight += weight;
      } else {
        ranges.push_back({first, weight, rule});
      }
    };
    add(0, 0, nullptr);
    for (const Rule& rule : policy_.rules) {
      add(rule.number, rule.frequency, &rule);
      add(rule.number + 1, 0, nullptr);
    }
    return ranges;
  }

  // A search tree over the number, which is in the accumulator. Split where the weights of both
  // sides are closest, so the depth of a call is about the logarithm of how rare it is.
  Label Tree(std::span<const Range> ranges) {
    if (ranges.size() == 1) return Body(ranges[0].rule);
    uint64_t total = 0;
    for (const Range& range : ranges) total += range.weight + 1;
    uint64_t left = 0;
    size_t split = 0;
    do {
      left += ranges[split].weight + 1;
      ++split;
    } while (split + 1 < ranges.size() && left + (ranges[split].weight + 1) / 2 < total / 2);
    const Label above = Tree(ranges.subspan(split));
    const Label below = Tree(ranges.first(split));
    return out_.Jump(BPF_JGE, ranges[split].first, above, below);
  }

  Label Return(uint32_t value) {
    const auto [known, is_new] = returns_.try_emplace(value, 0);
    if (is_new) known->second = out_.Return(value);
    return known->second;
  }

  Label Body(const Rule* rule) {
    if (rule == nullptr) return Return(ReturnValue(policy_.fallback));
    const auto is_empty = [](const AllOf& all) { return all.empty(); };
    if (std::any_of(rule->any.begin(), rule->any.end(), is_empty)) return Return(SECCOMP_RET_ALLOW);
    Action otherwise = rule->otherwise;
    // A rule that says nothing of it leaves the rest to the policy's default.
    if (otherwise == Action{}) otherwise = policy_.fallback;
    Label next = Return(ReturnValue(otherwise));
    if (rule->any.empty()) return next;
    const Label allow = Return(SECCOMP_RET_ALLOW);
    for (auto all = rule->any.rbegin(); all != rule->any.rend(); ++all) {
      Label holds = allow;
      for (auto one = all->rbegin(); one != all->rend(); ++one) holds = Test(*one, holds, next);
      next = holds;
    }
    return next;
  }

  static uint32_t LowOffset(uint8_t argument) {
    return static_cast<uint32_t>(offsetof(seccomp_data, args) + argument * sizeof(uint64_t));
  }
  // Both architectures are little-endian.
  static uint32_t HighOffset(uint8_t argument) {
    return LowOffset(argument) + static_cast<uint32_t>(sizeof(uint32_t));
  }

  // Only of the upper half decides when it differs; `condition` is BPF_JGT or BPF_JGE for the lower
  // half.
  Label TestOrder(const Comparison& test, uint16_t condition, Label yes, Label no) {
    out_.Jump(condition, Low(test.value), yes, no);
    const Label low = out_.Load(LowOffset(test.argument));
    const Label equal = out_.Jump(BPF_JEQ, High(test.value), low, no);
    out_.Jump(BPF_JGT, High(test.value), yes, equal);
    return out_.Load(HighOffset(test.argument));
  }

  Label TestEqual(const Comparison& test, Label yes, Label no) {
    out_.Jump(BPF_JEQ, Low(test.value), yes, no);
    const Label low = out_.Load(LowOffset(test.argument));
    out_.Jump(BPF_JEQ, High(test.value), low, no);
    return out_.Load(HighOffset(test.argument));
  }

  Label TestAny(uint8_t argument, uint64_t bits, Label yes, Label no) {
    out_.Jump(BPF_JSET, Low(bits), yes, no);
    const Label low = out_.Load(LowOffset(argument));
    if (High(bits) == 0) return low;
    out_.Jump(BPF_JSET, High(bits), yes, low);
    return out_.Load(HighOffset(argument));
  }

  Label Test(const Comparison& test, Label yes, Label no) {
    switch (test.op) {
      case Operator::kEqual:
        return TestEqual(test, yes, no);
      case Operator::kNotEqual:
        return TestEqual(test, no, yes);
      case Operator::kGreater:
        return TestOrder(test, BPF_JGT, yes, no);
      case Operator::kGreaterEqual:
        return TestOrder(test, BPF_JGE, yes, no);
      case Operator::kLess:
        return TestOrder(test, BPF_JGE, no, yes);
      case Operator::kLessEqual:
        return TestOrder(test, BPF_JGT, no, yes);
      case Operator::kAny:
        return TestAny(test.argument, test.value, yes, no);
      case Operator::kIn:
        return TestAny(test.argument, ~test.value, no, yes);
    }
    return no;
  }

  const Policy& policy_;
  BackwardEmitter out_;
  std::map<uint32_t, Label> returns_;
};

}  // namespace

Result<std::vector<sock_filter>> CompilePolicy(const Policy& policy) {
  return Compiler(policy).Compile();
}

}  // namespace crosvm::jail

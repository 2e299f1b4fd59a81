// A seccomp policy: which system calls, with which arguments. Read from text in minijail's syntax
// at build time, and at run time only for --seccomp-policy-dir. See docs/jail.md for the language.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "jail/syscall_table.h"

namespace crosvm::jail {

enum class Operator : uint8_t {
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kAny,  // `&`: some of the bits are set
  kIn,   // `in`: no bits but those are set
};
// As policies write them, in the order above.
inline constexpr const char* kOperatorTexts[] = {"==", "!=", "<", "<=", ">", ">=", "&", "in"};

// One test of an argument, all 64 bits of it, unsigned.
struct Comparison {
  uint8_t argument = 0;  // 0 to 5
  Operator op = Operator::kEqual;
  uint64_t value = 0;

  friend bool operator==(const Comparison&, const Comparison&) = default;
};

// Empty: holds always.
using AllOf = std::vector<Comparison>;

struct Action {
  enum class Kind : uint8_t {
    kDefault,  // of a rule: what the policy says of calls without a rule
    kDeny,     // what the process's jail does with a denied call: report and die, or log and allow
    kAllow,
    kLog,    // allow, with a line in the kernel's log
    kErrno,  // fail with `error`
    kKillThread,
    kKillProcess,
  };
  Kind kind = Kind::kDefault;
  uint16_t error = 0;

  friend bool operator==(Action, Action) = default;
};

struct Rule {
  std::string name;
  uint32_t number = 0;
  std::vector<AllOf> any;  // allowed when one of them holds
  Action otherwise;
  uint64_t frequency = 1;  // how often it is called in comparison to others
  std::string where;       // "block.policy:12", of its first line
};

struct Policy {
  Arch arch = kNativeArch;
  std::vector<Rule> rules;                          // ordered by number, one a number
  Action fallback = {.kind = Action::Kind::kDeny};  // for calls without a rule
  std::vector<Rule> written;  // every rule as it stands in its file, in order, not yet joined
};

struct PolicyText {
  std::string name;  // for messages and for finding what it includes
  std::string text;
};

// Finds what `@include PATH` and `@frequency PATH` in `from` name.
using PolicyReader =
    std::function<Result<PolicyText>(const std::string& path, const std::string& from)>;

// One policy from several texts. Rules of one call are joined: it is allowed where one of them
// allows it. The error names file and line. Bounded in time and memory whatever the text.
Result<Policy> ParsePolicy(std::span<const PolicyText> texts, Arch arch,
                           const PolicyReader& reader = {});

// As above from files; included ones are looked for beside the including one, then in
// `directories`.
Result<Policy> ParsePolicyFiles(std::span<const std::string> paths, Arch arch,
                                const std::vector<std::string>& directories);

}  // namespace crosvm::jail

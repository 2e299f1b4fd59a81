// The tokens and expressions of one line of a policy. Internal to the parser in policy.cc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "jail/policy.h"

namespace crosvm::jail {

// Reads `arg0 == X && arg1 in ~Y || …; return ERRNO` and the other right-hand sides of a rule.
// Errors are without file and line, which the caller puts in front.
class LineParser {
 public:
  // `text` outlives the parser.
  LineParser(std::string_view text, Arch arch) : text_(text), arch_(arch) {}

  // Fills any and otherwise of `rule`. The whole text has to be used.
  Status ParseFilter(Rule& rule);
  // `allow`, `1`, `return X`, `kill`, …; for @default.
  Result<Action> ParseOnlyAction();

  // Comparisons read so far.
  size_t comparisons() const { return comparisons_; }

 private:
  void SkipSpace();
  bool AtEnd();
  // Takes `token` if it is next.
  bool Take(std::string_view token);
  // A word of letters, digits and underscores (and '-' between them, as in kill-process); may be
  // empty.
  std::string_view TakeWord(bool dashes);
  Result<Action> ParseAction();
  Result<uint16_t> ParseErrno();
  Result<std::vector<AllOf>> ParseExpression();
  Result<Comparison> ParseComparison();
  Result<Operator> ParseOperator();
  Result<uint64_t> ParseValue(int depth);
  Result<uint64_t> ParseTerm(int depth);
  Result<uint64_t> ParseNumber(std::string_view word);
  Status ExpectEnd();
  std::string Next() const;

  std::string_view text_;
  Arch arch_;
  size_t position_ = 0;
  size_t comparisons_ = 0;
};

}  // namespace crosvm::jail

#include "jail/policy_line.h"

#include <cctype>
#include <charconv>

namespace crosvm::jail {
namespace {

constexpr int kMaxNesting = 32;
constexpr uint16_t kMaxErrno = 4095;
constexpr size_t kMaxQuoted = 40;

bool IsWordCharacter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}
bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}

}  // namespace

void LineParser::SkipSpace() {
  while (position_ < text_.size() && (text_[position_] == ' ' || text_[position_] == '\t')) {
    ++position_;
  }
}

bool LineParser::AtEnd() {
  SkipSpace();
  return position_ == text_.size();
}

bool LineParser::Take(std::string_view token) {
  SkipSpace();
  if (!text_.substr(position_).starts_with(token)) return false;
  position_ += token.size();
  return true;
}

std::string_view LineParser::TakeWord(bool dashes) {
  SkipSpace();
  const size_t begin = position_;
  while (position_ < text_.size() &&
         (IsWordCharacter(text_[position_]) || (dashes && text_[position_] == '-'))) {
    ++position_;
  }
  return text_.substr(begin, position_ - begin);
}

std::string LineParser::Next() const {
  if (position_ >= text_.size()) return "the end of the line";
  return fmt::format("'{}'", text_.substr(position_, kMaxQuoted));
}

Status LineParser::ExpectEnd() {
  if (AtEnd()) return {};
  return Fail(ErrorKind::kInvalidArgument, "{} after the end of the rule", Next());
}

Status LineParser::ParseFilter(Rule& rule) {
  SkipSpace();
  if (Take("{")) {
    return Fail(ErrorKind::kInvalidArgument,
                "filters in braces are not known here; write conditions joined by || instead");
  }
  if (text_.substr(position_).starts_with("arg")) {
    rule.any = TRY(ParseExpression());
    if (Take(";")) rule.otherwise = TRY(ParseAction());
    return ExpectEnd();
  }
  const Action action = TRY(ParseAction());
  if (action.kind == Action::Kind::kAllow) {
    rule.any = {AllOf{}};
  } else {
    rule.otherwise = action;
  }
  return ExpectEnd();
}

Result<Action> LineParser::ParseOnlyAction() {
  const Action action = TRY(ParseAction());
  TRY(ExpectEnd());
  return action;
}

Result<Action> LineParser::ParseAction() {
  const std::string_view word = TakeWord(true);
  if (word == "1" || word == "allow") return Action{.kind = Action::Kind::kAllow};
  if (word == "return") return Action{.kind = Action::Kind::kErrno, .error = TRY(ParseErrno())};
  if (word == "log") return Action{.kind = Action::Kind::kLog};
  if (word == "trap") return Action{.kind = Action::Kind::kDeny};
  if (word == "kill" || word == "kill-process") return Action{.kind = Action::Kind::kKillProcess};
  if (word == "kill-thread") return Action{.kind = Action::Kind::kKillThread};
  if (word.empty()) {
    return Fail(ErrorKind::kInvalidArgument, "{} where an action or a condition is expected",
                Next());
  }
  return Fail(ErrorKind::kInvalidArgument,
              "'{}' is not an action; known are 1, allow, return ERRNO, log, trap, kill, "
              "kill-process and kill-thread, and conditions on arg0 to arg5",
              word.substr(0, kMaxQuoted));
}

Result<uint16_t> LineParser::ParseErrno() {
  const std::string_view word = TakeWord(false);
  if (word.empty()) return Fail(ErrorKind::kInvalidArgument, "return needs an errno: return EPERM");
  if (IsDigit(word[0])) {
    const uint64_t value = TRY(ParseNumber(word));
    if (value <= kMaxErrno) return static_cast<uint16_t>(value);
    return Fail(ErrorKind::kInvalidArgument, "errno {} is above {}", value, kMaxErrno);
  }
  if (const std::optional<uint16_t> value = ErrnoValue(word)) return *value;
  return Fail(ErrorKind::kInvalidArgument, "no errno is called '{}'", word.substr(0, kMaxQuoted));
}

Result<std::vector<AllOf>> LineParser::ParseExpression() {
  std::vector<AllOf> any;
  do {
    AllOf all;
    do {
      all.push_back(TRY(ParseComparison()));
      ++comparisons_;
    } while (Take("&&"));
    any.push_back(std::move(all));
  } while (Take("||"));
  return any;
}

Result<Comparison> LineParser::ParseComparison() {
  SkipSpace();
  if (Take("(")) {
    return Fail(ErrorKind::kInvalidArgument,
                "conditions have no parentheses: && binds before ||, as in C");
  }
  const std::string_view word = TakeWord(false);
  if (word.size() != 4 || !word.starts_with("arg") || word[3] < '0' || word[3] > '5') {
    return Fail(ErrorKind::kInvalidArgument,
                "'{}' where an argument is expected, which is one of arg0 to arg5",
                word.substr(0, kMaxQuoted));
  }
  Comparison comparison;
  comparison.argument = static_cast<uint8_t>(word[3] - '0');
  comparison.op = TRY(ParseOperator());
  comparison.value = TRY(ParseValue(0));
  return comparison;
}

Result<Operator> LineParser::ParseOperator() {
  // Longer ones first. "&&" has no left-hand side here, so it is an error rather than `&`.
  if (Take("&&")) return Fail(ErrorKind::kInvalidArgument, "an argument has to be compared");
  if (Take("==")) return Operator::kEqual;
  if (Take("!=")) return Operator::kNotEqual;
  if (Take("<=")) return Operator::kLessEqual;
  if (Take(">=")) return Operator::kGreaterEqual;
  if (Take("<")) return Operator::kLess;
  if (Take(">")) return Operator::kGreater;
  if (Take("&")) return Operator::kAny;
  if (Take("in")) {
    // `in` needs its space: "inX" is a word.
    if (position_ < text_.size() && !IsWordCharacter(text_[position_])) return Operator::kIn;
  }
  return Fail(ErrorKind::kInvalidArgument,
              "{} where an operator is expected, which is one of == != < <= > >= & in", Next());
}

Result<uint64_t> LineParser::ParseValue(int depth) {
  uint64_t value = 0;
  while (true) {
    value |= TRY(ParseTerm(depth));
    SkipSpace();
    if (text_.substr(position_).starts_with("||") || !Take("|")) return value;
  }
}

Result<uint64_t> LineParser::ParseTerm(int depth) {
  if (depth > kMaxNesting) return Fail(ErrorKind::kInvalidArgument, "a value is nested too deeply");
  if (Take("~")) return ~TRY(ParseTerm(depth + 1));
  if (Take("-")) return uint64_t{0} - TRY(ParseTerm(depth + 1));
  if (Take("(")) {
    const uint64_t value = TRY(ParseValue(depth + 1));
    if (!Take(")")) return Fail(ErrorKind::kInvalidArgument, "{} where ) is expected", Next());
    return value;
  }
  const std::string_view word = TakeWord(false);
  if (word.empty())
    return Fail(ErrorKind::kInvalidArgument, "{} where a value is expected", Next());
  if (IsDigit(word[0])) return ParseNumber(word);
  if (const std::optional<uint64_t> value = ConstantValue(arch_, word)) return *value;
  return Fail(ErrorKind::kInvalidArgument, "no constant is called '{}'; a number will do",
              word.substr(0, kMaxQuoted));
}

Result<uint64_t> LineParser::ParseNumber(std::string_view word) {
  int base = 10;
  std::string_view digits = word;
  if (word.starts_with("0x") || word.starts_with("0X")) {
    base = 16;
    digits.remove_prefix(2);
  } else if (word.size() > 1 && word[0] == '0') {
    base = 8;
    digits.remove_prefix(1);
  }
  uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error != std::errc() || end != digits.data() + digits.size()) {
    return Fail(ErrorKind::kInvalidArgument, "'{}' is not a number of 64 bits",
                word.substr(0, kMaxQuoted));
  }
  return value;
}

}  // namespace crosvm::jail

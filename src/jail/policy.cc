#include "jail/policy.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "jail/policy_line.h"
#include "sys/file.h"

namespace crosvm::jail {
namespace {

constexpr size_t kMaxFiles = 64;
constexpr int kMaxIncludeDepth = 16;
constexpr size_t kMaxBytes = size_t{1} << 20;
constexpr size_t kMaxComparisons = 2048;
constexpr size_t kMaxQuoted = 40;

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j < row.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

// "; did you mean openat?", or nothing.
std::string Suggestion(Arch arch, std::string_view name) {
  constexpr uint32_t kBeyondLastNumber = 512;
  constexpr size_t kFar = 3;
  if (name.size() > kMaxQuoted) return {};
  size_t best = kFar;
  std::string_view nearest;
  for (uint32_t number = 0; number < kBeyondLastNumber; ++number) {
    const std::string_view known = SyscallName(arch, number);
    if (known.empty()) continue;
    const size_t distance = EditDistance(name, known);
    if (distance < best) {
      best = distance;
      nearest = known;
    }
  }
  return nearest.empty() ? std::string() : fmt::format("; did you mean {}?", nearest);
}

class Parser {
 public:
  Parser(Arch arch, const PolicyReader& reader) : reader_(reader) { policy_.arch = arch; }

  Status Add(const PolicyText& text, int depth);
  Policy Finish() &&;

 private:
  struct Line {
    const PolicyText& file;
    size_t number;
    int depth;
  };

  Status AddLine(const Line& line, std::string_view text);
  Status AddDirective(const Line& line, std::string_view text);
  Status AddRule(const Line& line, std::string_view name, std::string_view filter);
  Status AddFrequencies(const PolicyText& text);
  Result<PolicyText> Read(const Line& line, std::string_view path);
  Status Account(const PolicyText& text);

  const PolicyReader& reader_;
  Policy policy_;
  bool have_default_ = false;
  std::map<uint32_t, Rule> rules_;
  std::map<uint32_t, uint64_t> frequencies_;
  size_t files_ = 0;
  size_t bytes_ = 0;
  size_t comparisons_ = 0;
};

std::string Where(const PolicyText& file, size_t line) {
  return fmt::format("{}:{}", file.name, line);
}

// Calls `use` with each line that has something, comments removed and continuations joined.
template <typename Use>
Status ForEachLine(const PolicyText& file, const Use& use) {
  std::string_view rest = file.text;
  size_t number = 0;
  std::string joined;
  size_t joined_from = 0;
  while (!rest.empty()) {
    ++number;
    const size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    line = Trim(line.substr(0, line.find('#')));
    if (joined.empty()) joined_from = number;
    if (line.ends_with('\\')) {
      joined += line.substr(0, line.size() - 1);
      joined += ' ';
      continue;
    }
    joined += line;
    const std::string_view whole = Trim(joined);
    if (!whole.empty()) TRY_CONTEXT(use(joined_from, whole), "{}", Where(file, joined_from));
    joined.clear();
  }
  if (!Trim(joined).empty()) {
    return Fail(ErrorKind::kInvalidArgument, "{}: the last line is continued by a backslash",
                Where(file, joined_from));
  }
  return {};
}

Status Parser::Account(const PolicyText& text) {
  bytes_ += text.text.size();
  if (++files_ > kMaxFiles || bytes_ > kMaxBytes) {
    return Fail(ErrorKind::kInvalidArgument, "{}: the policy is larger than {} files or {} bytes",
                text.name, kMaxFiles, kMaxBytes);
  }
  return {};
}

Status Parser::Add(const PolicyText& text, int depth) {
  TRY(Account(text));
  return ForEachLine(text, [&](size_t number, std::string_view line) -> Status {
    return AddLine({.file = text, .number = number, .depth = depth}, line);
  });
}

Status Parser::AddLine(const Line& line, std::string_view text) {
  if (text.starts_with('@')) return AddDirective(line, text);
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) {
    return Fail(ErrorKind::kInvalidArgument,
                "'{}' is not `NAME: FILTER`, and not one of @include, @default and @frequency",
                text.substr(0, kMaxQuoted));
  }
  return AddRule(line, Trim(text.substr(0, colon)), Trim(text.substr(colon + 1)));
}

Result<PolicyText> Parser::Read(const Line& line, std::string_view path) {
  if (path.empty()) return Fail(ErrorKind::kInvalidArgument, "a path is missing");
  if (!reader_) {
    return Fail(ErrorKind::kUnsupported, "{} cannot be included here", path.substr(0, kMaxQuoted));
  }
  return reader_(std::string(path), line.file.name);
}

Status Parser::AddDirective(const Line& line, std::string_view text) {
  const size_t space = std::min(text.find_first_of(" \t"), text.size());
  const std::string_view directive = text.substr(0, space);
  const std::string_view argument = Trim(text.substr(space));
  if (directive == "@include") {
    if (line.depth >= kMaxIncludeDepth) {
      return Fail(ErrorKind::kInvalidArgument, "files include each other more than {} deep",
                  kMaxIncludeDepth);
    }
    const PolicyText included = TRY(Read(line, argument));
    return Add(included, line.depth + 1);
  }
  if (directive == "@frequency") {
    const PolicyText included = TRY(Read(line, argument));
    return AddFrequencies(included);
  }
  if (directive == "@default") {
    const Action action = TRY(LineParser(argument, policy_.arch).ParseOnlyAction());
    if (have_default_ && action != policy_.fallback) {
      return Fail(ErrorKind::kInvalidArgument, "there is another @default already");
    }
    have_default_ = true;
    policy_.fallback = action;
    return {};
  }
  return Fail(ErrorKind::kInvalidArgument, "{} is not one of @include, @default and @frequency",
              directive.substr(0, kMaxQuoted));
}

Status Parser::AddRule(const Line& line, std::string_view name, std::string_view filter) {
  const std::optional<uint32_t> number = SyscallNumber(policy_.arch, name);
  if (!number) {
    return Fail(ErrorKind::kInvalidArgument, "{} has no system call '{}'{}", ArchName(policy_.arch),
                name.substr(0, kMaxQuoted), Suggestion(policy_.arch, name));
  }
  Rule rule{.name = std::string(name), .number = *number, .where = Where(line.file, line.number)};
  LineParser parser(filter, policy_.arch);
  TRY_CONTEXT(parser.ParseFilter(rule), "{}", name);
  comparisons_ += parser.comparisons();
  if (comparisons_ > kMaxComparisons) {
    return Fail(ErrorKind::kInvalidArgument, "the policy has more than {} comparisons",
                kMaxComparisons);
  }
  policy_.written.push_back(rule);
  const auto [known, is_new] = rules_.try_emplace(*number, rule);
  if (is_new) return {};
  Rule& joined = known->second;
  // An unconditional permission needs no others beside it.
  joined.any.insert(joined.any.end(), rule.any.begin(), rule.any.end());
  if (std::any_of(joined.any.begin(), joined.any.end(),
                  [](const AllOf& all) { return all.empty(); })) {
    joined.any = {AllOf{}};
  }
  if (rule.otherwise == Action{} || rule.otherwise == joined.otherwise) return {};
  if (joined.otherwise != Action{}) {
    return Fail(ErrorKind::kInvalidArgument, "{} ends otherwise in {}", name, joined.where);
  }
  joined.otherwise = rule.otherwise;
  return {};
}

Status Parser::AddFrequencies(const PolicyText& text) {
  TRY(Account(text));
  return ForEachLine(text, [&](size_t, std::string_view line) -> Status {
    const size_t colon = line.find(':');
    const std::string_view count =
        colon == std::string_view::npos ? "" : Trim(line.substr(colon + 1));
    uint64_t value = 0;
    for (const char c : count) {
      if (c < '0' || c > '9' || value > UINT32_MAX) {
        value = UINT64_MAX;
        break;
      }
      value = value * 10 + static_cast<uint64_t>(c - '0');
    }
    if (count.empty() || value > UINT32_MAX) {
      return Fail(ErrorKind::kInvalidArgument, "'{}' is not `NAME: COUNT` with a count of 32 bits",
                  line.substr(0, kMaxQuoted));
    }
    // A frequency file serves all architectures, so a name that this one lacks is fine.
    const auto number = SyscallNumber(policy_.arch, Trim(line.substr(0, colon)));
    if (number) frequencies_[*number] = std::max<uint64_t>(value, 1);
    return {};
  });
}

Policy Parser::Finish() && {
  for (auto& [number, rule] : rules_) {
    const auto frequency = frequencies_.find(number);
    if (frequency != frequencies_.end()) rule.frequency = frequency->second;
    policy_.rules.push_back(std::move(rule));
  }
  return std::move(policy_);
}

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

}  // namespace

Result<Policy> ParsePolicy(std::span<const PolicyText> texts, Arch arch,
                           const PolicyReader& reader) {
  Parser parser(arch, reader);
  for (const PolicyText& text : texts) TRY(parser.Add(text, 0));
  return std::move(parser).Finish();
}

Result<Policy> ParsePolicyFiles(std::span<const std::string> paths, Arch arch,
                                const std::vector<std::string>& directories) {
  std::vector<PolicyText> texts;
  for (const std::string& path : paths) {
    texts.push_back({.name = path, .text = TRY(sys::ReadFileToString(path, kMaxBytes))});
  }
  const PolicyReader reader = [&](const std::string& path,
                                  const std::string& from) -> Result<PolicyText> {
    if (path.starts_with('/')) {
      return PolicyText{.name = path, .text = TRY(sys::ReadFileToString(path, kMaxBytes))};
    }
    std::vector<std::string> places = {DirectoryOf(from)};
    places.insert(places.end(), directories.begin(), directories.end());
    for (const std::string& place : places) {
      const std::string candidate = fmt::format("{}/{}", place, path);
      Result<std::string> text = sys::ReadFileToString(candidate, kMaxBytes);
      if (text.has_value()) return PolicyText{.name = candidate, .text = std::move(*text)};
      if (text.error().kind() != ErrorKind::kNotFound)
        return std::unexpected(std::move(text).error());
    }
    return Fail(ErrorKind::kNotFound, "{} is in none of {}", path, fmt::join(places, ", "));
  };
  return ParsePolicy(texts, arch, reader);
}

}  // namespace crosvm::jail

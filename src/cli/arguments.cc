#include "cli/arguments.h"

#include <algorithm>

namespace crosvm::cli {
namespace {

template <typename... Args>
std::unexpected<Error> Bad(fmt::format_string<Args...> format, Args&&... args) {
  return Fail(ErrorKind::kInvalidArgument, format, std::forward<Args>(args)...);
}

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0]++;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replace = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replace, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

// One run over the arguments.
class Parser {
 public:
  Parser(const Grammar& grammar, std::span<const std::string_view> arguments)
      : grammar_(grammar), arguments_(arguments) {}

  Result<Arguments> Run() {
    while (next_ < arguments_.size() && !result_.help) {
      const std::string_view argument = arguments_[next_++];
      TRY(One(argument));
    }
    return std::move(result_);
  }

 private:
  Status One(std::string_view argument) {
    if (only_positionals_ || !argument.starts_with('-')) return Positional(argument);
    if (grammar_.options_first && !result_.positionals.empty()) {
      return Bad("{} stands after the {}; move it in front of {}", argument,
                 grammar_.positional_name, result_.positionals[0]);
    }
    if (argument == "--") {
      only_positionals_ = true;
      return {};
    }
    if (argument == "-") return Bad("a single \"-\" is not an option; the name is missing");
    if (argument.starts_with("--")) return Long(argument);
    return Short(argument);
  }

  Status Positional(std::string_view argument) {
    result_.positionals.push_back(argument);
    return {};
  }

  Status Long(std::string_view argument) {
    const size_t start = argument.find_first_not_of('-');
    const std::string_view body = start == std::string_view::npos ? "" : argument.substr(start);
    const size_t equals = body.find('=');
    const std::string_view name = body.substr(0, equals);
    if (name.empty()) return Bad("\"{}\" names no option before the =", argument);
    if (equals == std::string_view::npos && name == "help") return Help();
    const size_t index = Find([&](const Option& option) { return option.name == name; });
    if (index == grammar_.options.size()) return UnknownLong(name);
    if (equals == std::string_view::npos) return Without(index);
    const std::string_view value = body.substr(equals + 1);
    if (value.empty()) return Bad("--{}= has no value after the =", name);
    if (!grammar_.options[index].takes_value()) {
      return Bad("--{} takes no value, but got \"{}\"", name, value);
    }
    return Add(index, value);
  }

  Status Short(std::string_view argument) {
    const char letter = argument[1];
    const std::string_view value = argument.substr(2);
    if (letter == 'h' && value.empty()) return Help();
    const size_t index = Find([&](const Option& option) { return option.short_name == letter; });
    if (index == grammar_.options.size()) {
      return Bad("{} is not a known option; --help lists them", argument.substr(0, 2));
    }
    if (value.empty()) return Without(index);
    if (!grammar_.options[index].takes_value()) {
      return Bad("-{} takes no value, but got \"{}\"", letter, value);
    }
    return Add(index, value);
  }

  // The option came without `=`: its value, if it takes one, is the next argument.
  Status Without(size_t index) {
    const Option& option = grammar_.options[index];
    if (!option.takes_value()) return Add(index, {});
    const bool have = next_ < arguments_.size() && !arguments_[next_].starts_with('-');
    if (have && arguments_[next_].empty()) {
      return Bad("--{} has an empty value; give {}", option.name, option.value);
    }
    if (have) return Add(index, arguments_[next_++]);
    if (option.value_optional()) return Add(index, {});
    if (next_ < arguments_.size()) {
      return Bad("--{} needs a value ({}); one that begins with - is written --{}={}", option.name,
                 option.value, option.name, arguments_[next_]);
    }
    return Bad("--{} needs a value: {}", option.name, option.value);
  }

  Status Add(size_t index, std::string_view value) {
    const Option& option = grammar_.options[index];
    if (!option.unbuilt.empty()) return Bad("--{} {}", option.name, option.unbuilt);
    const bool again = std::any_of(result_.options.begin(), result_.options.end(),
                                   [&](const Given& given) { return given.option == index; });
    if (again && option.once) return Bad("--{} is given twice", option.name);
    result_.options.push_back({index, value});
    return {};
  }

  Status Help() {
    result_.help = true;
    return {};
  }

  template <typename Predicate>
  size_t Find(Predicate matches) const {
    const auto found = std::find_if(grammar_.options.begin(), grammar_.options.end(), matches);
    return static_cast<size_t>(found - grammar_.options.begin());
  }

  Status UnknownLong(std::string_view name) const {
    std::vector<std::string_view> names;
    for (const Option& option : grammar_.options) {
      if (option.unbuilt.empty()) names.push_back(option.name);
    }
    return Bad("--{} is not a known option{}; --help lists them", name,
               Suggestion(name, names, "--"));
  }

  const Grammar& grammar_;
  std::span<const std::string_view> arguments_;
  size_t next_ = 0;
  bool only_positionals_ = false;
  Arguments result_;
};

}  // namespace

Result<Arguments> ParseArguments(const Grammar& grammar,
                                 std::span<const std::string_view> arguments) {
  return Parser(grammar, arguments).Run();
}

std::string Suggestion(std::string_view given, std::span<const std::string_view> names,
                       std::string_view prefix) {
  constexpr size_t kLongestName = 64;
  if (given.size() > kLongestName) return {};
  std::string_view best;
  size_t best_distance = std::max<size_t>(1, given.size() / 3) + 1;
  for (const std::string_view name : names) {
    const size_t distance = EditDistance(given, name);
    if (distance < best_distance) {
      best = name;
      best_distance = distance;
    }
  }
  return best.empty() ? std::string() : fmt::format(" (did you mean {}{}?)", prefix, best);
}

}  // namespace crosvm::cli

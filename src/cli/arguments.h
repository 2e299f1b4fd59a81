// The grammar of the command line, driven by tables: parsing, help text and shell completion all
// come from the same Option list of a command.
//
//   --name VALUE   --name=VALUE   -n VALUE   -nVALUE   --flag   --   (all after it is positional)
//
// A value in an argument of its own does not begin with `-`; `--name=-5` is the way. Where
// `options_first` is set (as for `run`), nothing after the first positional argument is an option.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace crosvm::cli {

struct Option {
  std::string_view name;
  char short_name = 0;
  // Placeholder of the value in the help, "PATH"; empty for a flag; in brackets when it may be left
  // out.
  std::string_view value = {};
  std::string_view help = {};
  // A second occurrence is an error.
  bool once = false;
  // Known, but not built: the reason, which follows "--name ".
  std::string_view unbuilt = {};
  // Heading in the help under which it and those after it stand; empty: as the one before.
  std::string_view section = {};

  bool takes_value() const { return !value.empty(); }
  bool value_optional() const { return value.starts_with('['); }
};

struct Given {
  size_t option;  // index in the table
  std::string_view value;
};

struct Arguments {
  std::vector<Given> options;
  std::vector<std::string_view> positionals;
  bool help = false;
};

struct Grammar {
  std::span<const Option> options;
  bool options_first = false;
  // For the error about an option after the first positional: "KERNEL".
  std::string_view positional_name = "argument";
};

// `arguments` without the names of program and subcommand; the result borrows from it. -h and
// --help are known to every command and stop the parse.
Result<Arguments> ParseArguments(const Grammar& grammar,
                                 std::span<const std::string_view> arguments);

// "; did you mean X?" for the nearest of `names`, or nothing.
std::string Suggestion(std::string_view given, std::span<const std::string_view> names,
                       std::string_view prefix);

}  // namespace crosvm::cli

// Help texts, made from the tables of options and commands.
#include "cli/command.h"

namespace crosvm::cli {
namespace {

constexpr size_t kWidth = 100;
constexpr size_t kColumn = 30;  // where the help of an option starts

std::string OptionLine(const Option& option) {
  std::string line = option.short_name != 0 ? fmt::format("  -{}, ", option.short_name) : "      ";
  line += fmt::format("--{}", option.name);
  if (option.value_optional()) {
    line += fmt::format("[={}", option.value.substr(1));
  } else if (option.takes_value()) {
    line += fmt::format(" {}", option.value);
  }
  line += line.size() + 2 > kColumn ? "\n" + std::string(kColumn, ' ')
                                    : std::string(kColumn - line.size(), ' ');
  return line + Wrap(option.help, kColumn, kWidth) + "\n";
}

std::string OptionList(std::span<const Option> options) {
  std::string text;
  std::string unbuilt;
  std::string_view section = "Options";
  bool heading = true;
  for (const Option& option : options) {
    if (!option.unbuilt.empty()) {
      unbuilt += fmt::format("{}--{}", unbuilt.empty() ? "" : ", ", option.name);
      continue;
    }
    if (!option.section.empty() && option.section != section) {
      section = option.section;
      heading = true;
    }
    if (heading) text += fmt::format("\n{}:\n", section);
    heading = false;
    text += OptionLine(option);
  }
  if (!unbuilt.empty()) {
    text +=
        fmt::format("\nKnown, but not built into this version:\n  {}\n", Wrap(unbuilt, 2, kWidth));
  }
  return text;
}

}  // namespace

std::string Wrap(std::string_view text, size_t indent, size_t width) {
  std::string out;
  size_t column = indent;
  while (!text.empty()) {
    const size_t blank = text.find_first_of(" \n");
    const std::string_view word = text.substr(0, blank);
    const bool line_ends = blank != std::string_view::npos && text[blank] == '\n';
    if (column > indent && column + 1 + word.size() > width) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    }
    if (column > indent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
    if (line_ends) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    }
    text = blank == std::string_view::npos ? std::string_view() : text.substr(blank + 1);
  }
  return out;
}

std::string HelpText(const Command& command) {
  std::string text =
      fmt::format("crosvm {} - {}\n\nUsage: crosvm {}{}{}\n", command.name, command.summary,
                  command.name, command.positionals.empty() ? "" : " ", command.positionals);
  if (!command.details.empty()) text += fmt::format("\n{}\n", Wrap(command.details, 0, kWidth));
  text += OptionList(command.options);
  if (command.more_help != nullptr) text += fmt::format("\n{}", command.more_help());
  return text;
}

std::string Overview() {
  std::string text =
      "crosvm - runs virtual machines on KVM, every device in a jail of its own\n\n"
      "Usage: crosvm COMMAND [ARGUMENTS]\n\nCommands:\n";
  for (const Command& command : Commands()) {
    text += fmt::format("  {:<14} {}\n", command.name, command.summary);
  }
  text +=
      "\n`crosvm COMMAND --help` explains a command. A first VM:\n"
      "  crosvm doctor\n"
      "  crosvm run --root rootfs.img vmlinuz\n";
  return text;
}

}  // namespace crosvm::cli

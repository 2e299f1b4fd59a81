// `crosvm completion`: scripts made from the tables of commands and options.
#include "cli/commands.h"

namespace crosvm::cli {
namespace {

std::string CommandNames() {
  std::string names;
  for (const Command& command : Commands()) {
    if (!names.empty()) names += ' ';
    names += command.name;
  }
  return names;
}

std::string OptionNames(const Command& command) {
  std::string names = "--help";
  for (const Option& option : command.options) {
    if (option.unbuilt.empty()) names += fmt::format(" --{}", option.name);
  }
  return names;
}

// One `name) words;;` a command, as both bash and zsh understand it.
std::string CaseLines() {
  std::string text;
  for (const Command& command : Commands()) {
    text += fmt::format("    {}) words='{}' ;;\n", command.name, OptionNames(command));
  }
  return text;
}

std::string Bash() {
  return fmt::format(R"(# Completion of crosvm for bash: source <(crosvm completion bash)
_crosvm() {{
  local words='' current="${{COMP_WORDS[COMP_CWORD]}}"
  if [[ $COMP_CWORD -eq 1 ]]; then
    COMPREPLY=($(compgen -W '{}' -- "$current"))
    return
  fi
  case "${{COMP_WORDS[1]}}" in
{}  esac
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  else
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}}
complete -o filenames -F _crosvm crosvm
)",
                     CommandNames(), CaseLines());
}

std::string Zsh() {
  return fmt::format(R"(#compdef crosvm
# Completion of crosvm for zsh: crosvm completion zsh > "${{fpath[1]}}/_crosvm"
_crosvm() {{
  local words_of_command='' words=''
  if (( CURRENT == 2 )); then
    compadd -- {}
    return
  fi
  case "${{(Q)${{(z)BUFFER}}[2]}}" in
{}  esac
  if [[ $PREFIX == -* ]]; then
    compadd -- ${{=words}}
  else
    _files
  fi
}}
compdef _crosvm crosvm
)",
                     CommandNames(), CaseLines());
}

std::string FishQuoted(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "'";
}

std::string Fish() {
  std::string text =
      "# Completion of crosvm for fish: crosvm completion fish > "
      "~/.config/fish/completions/crosvm.fish\n";
  for (const Command& command : Commands()) {
    text += fmt::format("complete -c crosvm -n __fish_use_subcommand -a {} -d {}\n", command.name,
                        FishQuoted(command.summary));
    for (const Option& option : command.options) {
      if (!option.unbuilt.empty()) continue;
      text += fmt::format(
          "complete -c crosvm -n '__fish_seen_subcommand_from {}' -l {}{}{} -d {}\n", command.name,
          option.name, option.short_name != 0 ? fmt::format(" -s {}", option.short_name) : "",
          option.takes_value() ? " -r" : "", FishQuoted(option.help));
    }
  }
  return text;
}

}  // namespace

std::string CompletionScript(std::string_view shell) {
  if (shell == "bash") return Bash();
  if (shell == "zsh") return Zsh();
  if (shell == "fish") return Fish();
  return {};
}

Result<int> CompletionCommand(const Invocation& invocation) {
  const std::string_view shell = invocation.arguments.positionals[0];
  const std::string script = CompletionScript(shell);
  if (script.empty()) {
    return Fail(ErrorKind::kInvalidArgument, "\"{}\" is none of bash, zsh and fish", shell);
  }
  invocation.Print(script);
  return kExitOk;
}

}  // namespace crosvm::cli

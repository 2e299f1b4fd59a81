// From arguments to the exit status.
#include "cli/command.h"
#include "sys/file.h"

namespace crosvm::cli {
namespace {

// Commands of the reference that this version does not have.
constexpr std::string_view kUnbuiltCommands[] = {"battery", "create_composite", "create_qcow2",
                                                 "usb"};

int Report(sys::BorrowedFd err, std::string_view command, const Error& error, bool arguments) {
  std::string text =
      fmt::format("crosvm{}{}: {}\n", command.empty() ? "" : " ", command, error.ToString());
  // Nothing can be done about a standard error that cannot be written.
  (void)sys::WriteAll(err, text);
  return arguments ? kExitBadArguments : kExitError;
}

Result<Arguments> Parse(const Command& command, std::span<const std::string_view> rest) {
  const Grammar grammar = {.options = command.options,
                           .options_first = command.options_first,
                           .positional_name = command.options_first ? "KERNEL" : "argument"};
  Arguments arguments = TRY(ParseArguments(grammar, rest));
  if (arguments.help) return arguments;
  if (arguments.positionals.size() < command.min_positionals) {
    return Fail(ErrorKind::kInvalidArgument, "an argument is missing; usage: crosvm {} {}",
                command.name, command.positionals);
  }
  if (arguments.positionals.size() > command.max_positionals) {
    return Fail(ErrorKind::kInvalidArgument, "\"{}\" is one argument too many; usage: crosvm {} {}",
                arguments.positionals[command.max_positionals], command.name, command.positionals);
  }
  return arguments;
}

}  // namespace

void Invocation::Print(std::string_view text) const {
  // A closed pipe (`crosvm help | head`) is no error of ours.
  (void)sys::WriteAll(out, text);
}

void Invocation::Report(const Error& error) const {
  (void)cli::Report(err, command.name, error, /*arguments=*/false);
}

bool Invocation::Has(std::string_view option) const {
  for (const Given& given : arguments.options) {
    if (command.options[given.option].name == option) return true;
  }
  return false;
}

std::string_view Invocation::ValueOf(std::string_view option) const {
  std::string_view value;
  for (const Given& given : arguments.options) {
    if (command.options[given.option].name == option) value = given.value;
  }
  return value;
}

int RunApp(std::span<const std::string_view> arguments, const Hooks& hooks, sys::BorrowedFd out,
           sys::BorrowedFd err) {
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h") {
    (void)sys::WriteAll(out, Overview());
    return kExitOk;
  }
  std::string_view name = arguments[0];
  if (name == "--version" || name == "-V") name = "version";
  const Command* command = FindCommand(name);
  if (command == nullptr) {
    for (const std::string_view unbuilt : kUnbuiltCommands) {
      if (name != unbuilt) continue;
      return Report(
          err, "",
          MakeError(ErrorKind::kUnsupported, "\"{}\" is not built into this version", name),
          /*arguments=*/true);
    }
    std::vector<std::string_view> names;
    for (const Command& known : Commands()) names.push_back(known.name);
    return Report(err, "",
                  MakeError(ErrorKind::kInvalidArgument,
                            "\"{}\" is not a command{}; `crosvm help` lists them", name,
                            Suggestion(name, names, "")),
                  /*arguments=*/true);
  }
  Result<Arguments> parsed = Parse(*command, arguments.subspan(1));
  if (!parsed) return Report(err, command->name, parsed.error(), /*arguments=*/true);
  const Invocation invocation = {
      .command = *command, .arguments = std::move(*parsed), .hooks = hooks, .out = out, .err = err};
  if (invocation.arguments.help) {
    invocation.Print(HelpText(*command));
    return kExitOk;
  }
  const Result<int> status = command->run(invocation);
  if (status) return *status;
  const bool arguments_are_wrong =
      status.error().kind() == ErrorKind::kInvalidArgument && status.error().sys_errno() == 0;
  return Report(err, command->name, status.error(), arguments_are_wrong);
}

}  // namespace crosvm::cli

// `crosvm version`, `crosvm help`.
#include "cli/commands.h"

namespace crosvm::cli {

Result<int> VersionCommand(const Invocation& invocation) {
  invocation.Print("crosvm " CROSVM_VERSION "\n");
  return kExitOk;
}

Result<int> HelpCommand(const Invocation& invocation) {
  if (invocation.arguments.positionals.empty()) {
    invocation.Print(Overview());
    return kExitOk;
  }
  const std::string_view name = invocation.arguments.positionals[0];
  const Command* command = FindCommand(name);
  if (command == nullptr) {
    return Fail(ErrorKind::kInvalidArgument, "\"{}\" is not a command; `crosvm help` lists them",
                name);
  }
  invocation.Print(HelpText(*command));
  return kExitOk;
}

}  // namespace crosvm::cli

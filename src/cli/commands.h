// One function for each subcommand; the table of commands.cc names them.
#pragma once

#include "cli/command.h"

namespace crosvm::cli {

Result<int> RunVmCommand(const Invocation& invocation);
Result<int> VsockCommand(const Invocation& invocation);
Result<int> StopCommand(const Invocation& invocation);
Result<int> PowerbtnCommand(const Invocation& invocation);
Result<int> SuspendCommand(const Invocation& invocation);
Result<int> ResumeCommand(const Invocation& invocation);
Result<int> BalloonCommand(const Invocation& invocation);
Result<int> BalloonStatsCommand(const Invocation& invocation);
Result<int> DiskCommand(const Invocation& invocation);
Result<int> NetCommand(const Invocation& invocation);
Result<int> PsCommand(const Invocation& invocation);
Result<int> EventsCommand(const Invocation& invocation);
Result<int> DeviceCommand(const Invocation& invocation);
Result<int> DoctorCommand(const Invocation& invocation);
Result<int> VersionCommand(const Invocation& invocation);
Result<int> HelpCommand(const Invocation& invocation);
Result<int> CompletionCommand(const Invocation& invocation);

// What `crosvm completion SHELL` prints; empty for a shell we do not know.
std::string CompletionScript(std::string_view shell);

}  // namespace crosvm::cli

// `crosvm run`.
#include "base/log.h"
#include "cli/commands.h"
#include "cli/run_options.h"

namespace crosvm::cli {
namespace {

// Everything that a user may get wrong on the command line; errors here end with kExitBadArguments.
Result<config::VmConfig> Configure(const Invocation& invocation) {
  config::VmConfig config;
  TRY(ApplyRunOptions(invocation.arguments, config));
  if (!invocation.arguments.positionals.empty()) {
    config.kernel = std::string(invocation.arguments.positionals[0]);
  }
  TRY(config::Validate(config));
  if (!invocation.Has("dump-config")) TRY(config::CheckPaths(config));
  return config;
}

Status SetUpLogging(const config::VmConfig& config) {
  if (!config.log_level.empty()) {
    TRY_CONTEXT(SetLogFilter(config.log_level), "--log-level {}", config.log_level);
  }
  if (!config.syslog_tag.empty()) SetSyslogTag(config.syslog_tag);
  return {};
}

}  // namespace

Result<int> RunVmCommand(const Invocation& invocation) {
  Result<config::VmConfig> config = Configure(invocation);
  Status logging;
  if (config) logging = SetUpLogging(*config);
  if (!config || !logging) {
    invocation.Report(config ? logging.error() : config.error());
    return kExitBadArguments;
  }
  if (invocation.Has("dump-config")) {
    invocation.Print(config::DumpConfig(*config) + "\n");
    return kExitOk;
  }
  const Result<int> status = invocation.hooks.run_vm(*config);
  if (status) return *status;
  // Of an image or the host, even if it says that something is invalid.
  invocation.Report(status.error());
  return kExitError;
}

}  // namespace crosvm::cli

// What a subcommand is, and what the program gives it. One table of commands (commands.cc) makes
// dispatch, help and completion.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/arguments.h"
#include "config/vm_config.h"
#include "sys/fd.h"

namespace crosvm::cli {

// Exit statuses of the program. 0: stopped on request or powered off by the guest.
inline constexpr int kExitOk = 0;
inline constexpr int kExitError = 1;
inline constexpr int kExitReset = 32;
inline constexpr int kExitCrash = 33;
inline constexpr int kExitPanic = 34;
inline constexpr int kExitBadArguments = 35;
inline constexpr int kExitWatchdog = 36;

struct DeviceInfo {
  std::string_view name;
  std::string_view summary;
  std::string_view option_help;
};

// What lies above or beside this folder; main.cc fills it, tests put fakes.
struct Hooks {
  // The exit status follows from how the VM ended.
  Result<int> (*run_vm)(const config::VmConfig& config) = nullptr;
  Result<int> (*run_device)(std::string_view name, const std::string& socket_path,
                            std::string_view option) = nullptr;
  std::vector<DeviceInfo> (*devices)() = nullptr;
};

struct Command;

struct Invocation {
  const Command& command;
  Arguments arguments;
  const Hooks& hooks;
  sys::BorrowedFd out;
  sys::BorrowedFd err;

  void Print(std::string_view text) const;
  // "crosvm COMMAND: error" on `err`.
  void Report(const Error& error) const;
  bool Has(std::string_view option) const;
  // The last value, or empty.
  std::string_view ValueOf(std::string_view option) const;
};

struct Command {
  std::string_view name;
  std::string_view positionals;  // "[OPTIONS] KERNEL"
  std::string_view summary;      // one line
  std::string_view details;      // paragraphs of --help; may be empty
  std::span<const Option> options = {};
  size_t min_positionals = 0;
  size_t max_positionals = 0;
  bool options_first = false;
  // Returns the exit status. An Error is printed and ends with kExitError; with kExitBadArguments
  // if it is kInvalidArgument and not of a system call.
  Result<int> (*run)(const Invocation& invocation) = nullptr;
  // What --help shows after the options; null: nothing.
  std::string (*more_help)() = nullptr;
};

std::span<const Command> Commands();
const Command* FindCommand(std::string_view name);

std::string HelpText(const Command& command);
std::string Overview();
// `text` in lines of at most `width` columns, each after the first with `indent` blanks in front.
std::string Wrap(std::string_view text, size_t indent, size_t width);

// The whole program after main(): parses, dispatches, reports. `arguments` without the program's
// name.
int RunApp(std::span<const std::string_view> arguments, const Hooks& hooks, sys::BorrowedFd out,
           sys::BorrowedFd err);

}  // namespace crosvm::cli

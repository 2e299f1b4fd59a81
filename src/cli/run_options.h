// The options of `crosvm run`: one table of what they are called, what they mean and where they go.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "cli/arguments.h"
#include "config/vm_config.h"

namespace crosvm::cli {

std::span<const Option> RunOptions();

// Puts what was given into `config`, in order; `arguments` came from RunOptions(). The error names
// the option. A configuration file (--cfg) is read first, wherever it stands.
Status ApplyRunOptions(const Arguments& arguments, config::VmConfig& config);

// The keys of every option that has some.
std::string RunOptionGrammars();

}  // namespace crosvm::cli

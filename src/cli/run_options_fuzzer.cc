// Lines of the input are the arguments of `crosvm run`.
#include "cli/run_options.h"

using namespace crosvm;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);  // SAFETY: characters
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const size_t line = text.find('\n');
    words.push_back(text.substr(0, line));
    text = line == std::string_view::npos ? std::string_view() : text.substr(line + 1);
  }
  const cli::Grammar grammar = {.options = cli::RunOptions(), .options_first = true};
  const auto arguments = cli::ParseArguments(grammar, words);
  if (!arguments || arguments->help) return 0;
  // No files are read on behalf of the fuzzer.
  for (const cli::Given& given : arguments->options) {
    if (cli::RunOptions()[given.option].name == "cfg") return 0;
  }
  config::VmConfig config;
  if (!cli::ApplyRunOptions(*arguments, config)) return 0;
  if (!config::Validate(config)) return 0;
  (void)config::DeviceKernelParameters(config);
  (void)config::DumpConfig(config);
  return 0;
}

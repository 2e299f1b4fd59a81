// `crosvm device`: the list of devices, and one of them on its own for another VMM.
#include <algorithm>

#include "cli/commands.h"

namespace crosvm::cli {
namespace {

std::string ListDevices(const std::vector<DeviceInfo>& devices) {
  std::string text =
      "Devices that `crosvm device NAME --socket-path PATH OPTION` serves over vhost-user:\n";
  for (const DeviceInfo& device : devices) {
    text += fmt::format("\n{} - {}\n", device.name, device.summary);
    if (!device.option_help.empty()) text += fmt::format("{}\n", device.option_help);
  }
  return text;
}

}  // namespace

Result<int> DeviceCommand(const Invocation& invocation) {
  const std::span<const std::string_view> words = invocation.arguments.positionals;
  const std::vector<DeviceInfo> devices = invocation.hooks.devices();
  if (words.empty()) {
    invocation.Print(ListDevices(devices));
    return kExitOk;
  }
  std::vector<std::string_view> names;
  names.reserve(devices.size());
  for (const DeviceInfo& device : devices) names.push_back(device.name);
  if (std::find(names.begin(), names.end(), words[0]) == names.end()) {
    return Fail(ErrorKind::kInvalidArgument,
                "there is no device \"{}\"{}; `crosvm device` lists them", words[0],
                Suggestion(words[0], names, ""));
  }
  const std::string socket(invocation.ValueOf("socket-path"));
  if (socket.empty()) {
    return Fail(
        ErrorKind::kInvalidArgument,
        "--socket-path PATH is missing: the socket on which the other VMM finds the device");
  }
  return invocation.hooks.run_device(words[0], socket, words.size() > 1 ? words[1] : "");
}

}  // namespace crosvm::cli

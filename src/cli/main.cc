// The program. Everything it does is in app.cc; here the parts above the command line are put in.
#include <csignal>
#include <string_view>
#include <vector>

#include "cli/command.h"
#include "device_host/device_host.h"
#include "devices/module/module.h"
#include "vm/run.h"

namespace crosvm {
namespace {

int StatusOf(vm::ExitReason reason) {
  switch (reason) {
    case vm::ExitReason::kStopped:
    case vm::ExitReason::kPowerOff:
      return cli::kExitOk;
    case vm::ExitReason::kReset:
      return cli::kExitReset;
    case vm::ExitReason::kCrash:
      return cli::kExitCrash;
    case vm::ExitReason::kPanic:
      return cli::kExitPanic;
    case vm::ExitReason::kWatchdog:
      return cli::kExitWatchdog;
  }
  return cli::kExitError;
}

Result<int> RunVm(const config::VmConfig& config) {
  const vm::ExitReason reason = TRY(vm::RunVm(config));
  return StatusOf(reason);
}

Result<int> RunDevice(std::string_view name, const std::string& socket_path,
                      std::string_view option) {
  const devices::DeviceModule* const module = devices::FindModule(name);
  if (module == nullptr) {
    return Fail(ErrorKind::kNotFound, "no device is called '{}'; `crosvm device` lists them", name);
  }
  return device_host::RunStandalone(*module, socket_path, option);
}

std::vector<cli::DeviceInfo> Devices() {
  std::vector<cli::DeviceInfo> devices;
  for (const devices::DeviceModule* module : devices::AllModules()) {
    devices.push_back({module->name, module->summary, module->option_help});
  }
  return devices;
}

int Main(int argc, char** argv) {
  // A closed pipe or socket is an error of the call that meets it.
  signal(SIGPIPE, SIG_IGN);
  // How the VMM starts a device process; not for users.
  if (argc > 1 && std::string_view(argv[1]) == "--device-process") {
    return device_host::ChildMain(devices::AllModules());
  }
  if (argc > 1 && std::string_view(argv[1]) == "--spawner-process") {
    return device_host::SpawnerMain(argc, argv);
  }
  const std::vector<std::string_view> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  const cli::Hooks hooks = {.run_vm = &RunVm, .run_device = &RunDevice, .devices = &Devices};
  return cli::RunApp(arguments, hooks, sys::BorrowedFd(1), sys::BorrowedFd(2));
}

}  // namespace
}  // namespace crosvm

int main(int argc, char** argv) {
  return crosvm::Main(argc, argv);
}

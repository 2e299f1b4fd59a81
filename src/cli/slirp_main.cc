// The program that serves the user-mode network: a device process of its own kind, as libslirp is a
// shared library, which the main program, a static one, cannot be linked with. Started by crosvm.
#include <array>
#include <csignal>
#include <string_view>

#include "base/log.h"
#include "device_host/device_host.h"
#include "devices/slirp/slirp_module.h"

namespace crosvm {
namespace {

int Main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  constexpr std::array<const devices::DeviceModule*, 1> kModules = {&devices::slirp::kSlirpModule};
  if (argc > 1 && std::string_view(argv[1]) == "--device-process")
    return device_host::ChildMain(kModules);
  // As `crosvm device` passes on what it was called with: device NAME --socket-path PATH [OPTION].
  if (argc >= 5 && std::string_view(argv[1]) == "device" && argv[2] == kModules[0]->name &&
      std::string_view(argv[3]) == "--socket-path") {
    const Result<int> status =
        device_host::RunStandalone(*kModules[0], argv[4], argc > 5 ? argv[5] : "");
    if (status.has_value()) return *status;
    LOG_ERROR("{}", status.error().ToString());
    return 1;
  }
  LOG_ERROR("this program is started by crosvm, for --net user");
  return 1;
}

}  // namespace
}  // namespace crosvm

int main(int argc, char** argv) {
  return crosvm::Main(argc, argv);
}

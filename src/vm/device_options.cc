#include "vm/device_options.h"

#include "codec/key_value.h"
#include "devices/console/console_options.h"
#include "vm/kernel_devices.h"

namespace crosvm::vm {
namespace {

using devices::console::PortOptions;
using devices::console::PortType;

PortType PortTypeOf(config::SerialType type) {
  switch (type) {
    case config::SerialType::kFile:
      return PortType::kFile;
    case config::SerialType::kStdout:
      return PortType::kStdout;
    case config::SerialType::kSink:
      return PortType::kSink;
    case config::SerialType::kSyslog:
      return PortType::kSyslog;
    case config::SerialType::kUnix:
      return PortType::kUnix;
    case config::SerialType::kUnixStream:
      return PortType::kUnixStream;
  }
  return PortType::kSink;
}

// All virtio consoles are ports of one device; empty when there are none.
std::string ConsoleOption(const config::VmConfig& config) {
  std::string option;
  for (const config::SerialOptions& serial : config.serial) {
    if (serial.hardware != config::SerialHardware::kVirtioConsole) continue;
    if (!option.empty()) option += ';';
    option += codec::FormatKeyValue(PortOptions{.type = PortTypeOf(serial.type),
                                                .path = serial.path,
                                                .input = serial.input,
                                                .use_stdin = serial.use_stdin,
                                                .name = {}});
  }
  return option;
}

bool HasConsole(const config::VmConfig& config) {
  for (const config::SerialOptions& serial : config.serial) {
    if (serial.hardware == config::SerialHardware::kVirtioConsole) return true;
  }
  return false;
}

}  // namespace

std::vector<DeviceRequest> DevicesOf(const config::VmConfig& config) {
  std::vector<DeviceRequest> requests;
  if (HasConsole(config)) requests.push_back({"console", ConsoleOption(config), {}});
  for (const config::BlockOptions& disk : config.disks) {
    requests.push_back({"block", config::DeviceOption(disk), {}});
  }
  for (const config::VhostUserOptions& foreign : config.vhost_user) {
    requests.push_back({std::string(NameOf(foreign.type)), foreign.tag, foreign.socket});
  }
  if (!config.no_rng) requests.push_back({"rng", {}, {}});
  for (const config::NetOptions& net : config.nets) {
    const std::string_view module = net.user ? "net-user" : net.vhost_net ? kKernelNet : "net";
    requests.push_back({std::string(module), codec::FormatKeyValue(net), {}});
  }
  if (config.vsock) {
    const std::string_view module = config.vsock->path.empty() ? kKernelVsock : "vsock";
    requests.push_back({std::string(module), codec::FormatKeyValue(*config.vsock), {}});
  }
  for (const config::SharedDirOptions& dir : config.shared_dirs) {
    requests.push_back({dir.type == config::SharedDirType::kFs ? "fs" : "9p",
                        codec::FormatKeyValue(dir, {.separator = config::kSharedDirSeparator}),
                        {}});
  }
  return requests;
}

}  // namespace crosvm::vm

// Everything a VM is built from: plain data with defaults. The command line and the configuration
// file fill the same struct; Validate() holds every rule between fields; vm/ only reads it. No
// device header is needed to know it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/describe.h"
#include "base/result.h"
#include "config/block_options.h"
#include "config/net_options.h"
#include "config/serial_options.h"
#include "config/shared_dir_options.h"
#include "config/values.h"
#include "config/vhost_user_options.h"
#include "config/vsock_options.h"

namespace crosvm::config {

enum class OnDeviceCrash : uint8_t { kRestart, kReset, kStop };
constexpr auto DescribeEnum(OnDeviceCrash) {
  return EnumNames<OnDeviceCrash>({{OnDeviceCrash::kRestart, "restart"},
                                   {OnDeviceCrash::kReset, "reset"},
                                   {OnDeviceCrash::kStop, "stop"}});
}

// What to do where the host refuses a layer of the jail.
enum class JailMode : uint8_t { kStrict, kBestEffort };
constexpr auto DescribeEnum(JailMode) {
  return EnumNames<JailMode>(
      {{JailMode::kStrict, "strict"}, {JailMode::kBestEffort, "best-effort"}});
}

struct SandboxOptions {
  bool disabled = false;
  JailMode jail = JailMode::kStrict;
  // Overrides the policies that are compiled in; empty: those.
  std::string seccomp_policy_dir;
  bool seccomp_log_failures = false;
  OnDeviceCrash on_device_crash = OnDeviceCrash::kRestart;
  // A device that fails more often within a minute is not started again.
  uint32_t device_restarts_per_minute = 3;

  bool operator==(const SandboxOptions&) const = default;
  static constexpr auto Describe() {
    return Fields(Field("disabled", &SandboxOptions::disabled),
                  Field("jail", &SandboxOptions::jail),
                  Field("seccomp_policy_dir", &SandboxOptions::seccomp_policy_dir),
                  Field("seccomp_log_failures", &SandboxOptions::seccomp_log_failures),
                  Field("on_device_crash", &SandboxOptions::on_device_crash),
                  Field("device_restarts_per_minute", &SandboxOptions::device_restarts_per_minute));
  }
};

struct VmConfig {
  // Exactly one of the two.
  std::string kernel;
  std::string bios;
  std::string initrd;
  // Extra kernel parameters, in order; joined by blanks after our own.
  std::vector<std::string> params;

  std::string kvm_device = "/dev/kvm";
  std::string vhost_net_device = "/dev/vhost-net";

  uint32_t cpus = 1;
  CpuAffinity cpu_affinity;
  CpuSet rt_cpus;
  bool no_smt = false;
  uint64_t mem_mib = 256;
  bool hugepages = false;
  bool split_irqchip = false;
  bool no_legacy = false;
  bool no_balloon = false;
  bool no_rng = false;
  std::vector<std::string> acpi_tables;
  std::string dmi;

  // In the order of vda, vdb, ….
  std::vector<BlockOptions> disks;
  std::vector<SerialOptions> serial;
  std::vector<NetOptions> nets;
  // The interface that --host_ip, --netmask and --mac describe; Validate() moves it into `nets`.
  std::optional<Ipv4Address> host_ip;
  std::optional<Ipv4Address> netmask;
  std::optional<MacAddress> mac;
  uint16_t net_vq_pairs = 1;
  bool vhost_net = false;
  std::optional<VsockOptions> vsock;
  std::vector<SharedDirOptions> shared_dirs;
  std::vector<VhostUserOptions> vhost_user;

  SandboxOptions sandbox;
  // Control socket; empty: none.
  std::string socket;
  std::string syslog_tag;
  std::string log_level;

  bool operator==(const VmConfig&) const = default;
  static constexpr auto Describe() {
    return Fields(
        Field("kernel", &VmConfig::kernel), Field("bios", &VmConfig::bios),
        Field("initrd", &VmConfig::initrd), Field("params", &VmConfig::params),
        Field("kvm_device", &VmConfig::kvm_device),
        Field("vhost_net_device", &VmConfig::vhost_net_device),
        Field("cpus", &VmConfig::cpus).Range(1, 254),
        Field("cpu_affinity", &VmConfig::cpu_affinity), Field("rt_cpus", &VmConfig::rt_cpus),
        Field("no_smt", &VmConfig::no_smt), Field("mem", &VmConfig::mem_mib),
        Field("hugepages", &VmConfig::hugepages), Field("split_irqchip", &VmConfig::split_irqchip),
        Field("no_legacy", &VmConfig::no_legacy), Field("no_balloon", &VmConfig::no_balloon),
        Field("no_rng", &VmConfig::no_rng), Field("acpi_tables", &VmConfig::acpi_tables),
        Field("dmi", &VmConfig::dmi), Field("disks", &VmConfig::disks),
        Field("serial", &VmConfig::serial), Field("nets", &VmConfig::nets),
        Field("host_ip", &VmConfig::host_ip), Field("netmask", &VmConfig::netmask),
        Field("mac", &VmConfig::mac), Field("net_vq_pairs", &VmConfig::net_vq_pairs).Range(1, 16),
        Field("vhost_net", &VmConfig::vhost_net), Field("vsock", &VmConfig::vsock),
        Field("shared_dirs", &VmConfig::shared_dirs), Field("vhost_user", &VmConfig::vhost_user),
        Field("sandbox", &VmConfig::sandbox), Field("socket", &VmConfig::socket),
        Field("syslog_tag", &VmConfig::syslog_tag), Field("log_level", &VmConfig::log_level));
  }
};

// Checks every rule between fields and completes what follows from others: default serial ports,
// the interface of host_ip/netmask/mac. Touches no file. Idempotent. The error names the option and
// what to do.
Status Validate(VmConfig& config);

// That the files a validated configuration names are there (and the control socket is not). A
// directory as `socket` becomes the path `crosvm-PID.sock` in it.
Status CheckPaths(VmConfig& config);

// What disks and serial ports add to the kernel's parameters: console=, earlycon=, root=. To stand
// before `params`, so that the user's win.
std::vector<std::string> DeviceKernelParameters(const VmConfig& config);

// Reads a JSON file (comments allowed) over `config`: lists are replaced, missing fields keep what
// they had.
Status LoadConfigFile(const std::string& path, VmConfig& config);
// The same from text; `name` stands in errors.
Status LoadConfigText(std::string_view text, std::string_view name, VmConfig& config);
// What LoadConfigText reads back, indented.
std::string DumpConfig(const VmConfig& config);

}  // namespace crosvm::config

// Every rule between the fields of a configuration. Errors name options, since those are what a
// user can change.
#include <algorithm>

#include "config/vm_config.h"

namespace crosvm::config {
namespace {

constexpr uint8_t kSerialPorts = 4;
constexpr size_t kMaxDisks = 26;  // vda to vdz

template <typename... Args>
std::unexpected<Error> Bad(fmt::format_string<Args...> format, Args&&... args) {
  return Fail(ErrorKind::kInvalidArgument, format, std::forward<Args>(args)...);
}

std::string_view NameOfHardware(const SerialOptions& port) {
  return NameOf(port.hardware);
}

Status CheckBoot(const VmConfig& config) {
  if (config.kernel.empty() && config.bios.empty()) {
    return Bad("there is nothing to boot: give the path of a KERNEL, or --bios PATH");
  }
  if (!config.kernel.empty() && !config.bios.empty()) {
    return Bad("both the kernel {} and --bios {} are given; a VM boots one of them", config.kernel,
               config.bios);
  }
  if (!config.bios.empty() && !config.initrd.empty()) {
    return Bad("--initrd {} needs a kernel; a firmware (--bios) loads its own", config.initrd);
  }
  if (!config.bios.empty() && !config.params.empty()) {
    return Bad("--params \"{}\" needs a kernel; a firmware (--bios) takes none",
               config.params.front());
  }
  return {};
}

Status CheckCpus(const VmConfig& config) {
  if (config.cpus == 0 || config.cpus > 254) {
    return Bad("--cpus {}: a VM has 1 to 254 CPUs", config.cpus);
  }
  for (const auto& [vcpu, set] : config.cpu_affinity.per_vcpu) {
    if (vcpu >= config.cpus) {
      return Bad("--cpu-affinity names vCPU {}, but the VM has {} (--cpus), counted from 0", vcpu,
                 config.cpus);
    }
  }
  for (const uint32_t vcpu : config.rt_cpus.cpus) {
    if (vcpu >= config.cpus) {
      return Bad("--rt-cpus names vCPU {}, but the VM has {} (--cpus), counted from 0", vcpu,
                 config.cpus);
    }
  }
  return {};
}

Status CheckMemory(const VmConfig& config) {
  // 2^46 bytes: what the page tables of common hosts reach, and no sum of addresses overflows.
  constexpr uint64_t kMostMib = uint64_t{1} << 26;
  if (config.mem_mib == 0 || config.mem_mib > kMostMib) {
    return Bad("--mem {}: memory is given in MiB, from 1 to {}", config.mem_mib, kMostMib);
  }
  return {};
}

Status CheckDisks(const VmConfig& config) {
  const BlockOptions* root = nullptr;
  for (const BlockOptions& disk : config.disks) {
    // The options of a device travel as `path,key=value`.
    if (disk.path.empty()) return Bad("a disk has an empty path");
    if (disk.path.find(',') != std::string::npos || disk.id.find(',') != std::string::npos) {
      return Bad("disk {}: its path and id must not contain a comma; link it to another name",
                 disk.path);
    }
    TRY(CheckBlockOptions(disk));
    if (!disk.root) continue;
    if (root != nullptr) {
      return Bad("both disk {} and disk {} are to be the root; choose one", root->path, disk.path);
    }
    root = &disk;
  }
  if (root != nullptr && static_cast<size_t>(root - config.disks.data()) >= kMaxDisks) {
    return Bad("disk {}: only the first {} disks can be the root", root->path, kMaxDisks);
  }
  return {};
}

Status CheckOneSerial(const SerialOptions& port) {
  const std::string_view hardware = NameOfHardware(port);
  if (port.num == 0) return Bad("--serial: num must be at least 1");
  if (port.hardware == SerialHardware::kSerial && port.num > kSerialPorts) {
    return Bad("--serial num={}: there are {} serial ports", port.num, kSerialPorts);
  }
  if (port.use_stdin && !port.input.empty()) {
    return Bad("--serial {} {}: stdin and input={} exclude each other", hardware, port.num,
               port.input);
  }
  if (port.earlycon && port.hardware != SerialHardware::kSerial) {
    return Bad("--serial {} {}: earlycon needs hardware=serial", hardware, port.num);
  }
  const bool needs_path = port.type == SerialType::kFile || port.type == SerialType::kUnix ||
                          port.type == SerialType::kUnixStream;
  if (needs_path && port.path.empty()) {
    return Bad("--serial {} {}: type={} needs path=…", hardware, port.num, NameOf(port.type));
  }
  if (!needs_path && !port.path.empty()) {
    return Bad("--serial {} {}: type={} takes no path", hardware, port.num, NameOf(port.type));
  }
  return {};
}

Status CheckSerial(const VmConfig& config) {
  const SerialOptions* console = nullptr;
  const SerialOptions* earlycon = nullptr;
  const SerialOptions* input = nullptr;
  for (const SerialOptions& port : config.serial) {
    TRY(CheckOneSerial(port));
    for (const SerialOptions& other : config.serial) {
      if (&other == &port) break;
      if (IsSamePort(other, port)) {
        return Bad("--serial: {} {} is given twice; choose another num", NameOfHardware(port),
                   port.num);
      }
    }
    const auto alone = [&](bool wants, const SerialOptions*& first,
                           std::string_view what) -> Status {
      if (!wants) return {};
      if (first != nullptr) {
        return Bad("--serial: {} is set for {} {} and for {} {}; choose one", what,
                   NameOfHardware(*first), first->num, NameOfHardware(port), port.num);
      }
      first = &port;
      return {};
    };
    TRY(alone(port.console, console, "console"));
    TRY(alone(port.earlycon, earlycon, "earlycon"));
    TRY(alone(port.use_stdin, input, "stdin"));
  }
  return {};
}

// Four serial ports always; the first is the console on our terminal when nothing else is the
// console.
void CompleteSerial(VmConfig& config) {
  const auto has = [&](uint8_t num) {
    return std::any_of(config.serial.begin(), config.serial.end(), [&](const SerialOptions& port) {
      return port.hardware == SerialHardware::kSerial && port.num == num;
    });
  };
  const auto any = [&](bool SerialOptions::* flag) {
    return std::any_of(config.serial.begin(), config.serial.end(),
                       [&](const SerialOptions& port) { return port.*flag; });
  };
  if (!any(&SerialOptions::console) && !has(1)) {
    config.serial.push_back({.type = SerialType::kStdout,
                             .console = true,
                             .use_stdin = !any(&SerialOptions::use_stdin)});
  }
  for (uint8_t num = 1; num <= kSerialPorts; ++num) {
    if (!has(num)) config.serial.push_back({.type = SerialType::kSink, .num = num});
  }
  // The guest counts the ports of the console device in this order.
  std::sort(config.serial.begin(), config.serial.end(),
            [](const SerialOptions& a, const SerialOptions& b) {
              return std::pair(a.hardware, a.num) < std::pair(b.hardware, b.num);
            });
}

Status CompleteNets(VmConfig& config) {
  const bool any = config.host_ip || config.netmask || config.mac;
  if (any) {
    const auto missing = [&](bool given, std::string_view option) -> Status {
      if (given) return {};
      return Bad("--host_ip, --netmask and --mac go together; {} is missing", option);
    };
    TRY(missing(config.host_ip.has_value(), "--host_ip"));
    TRY(missing(config.netmask.has_value(), "--netmask"));
    TRY(missing(config.mac.has_value(), "--mac"));
    for (const VhostUserOptions& device : config.vhost_user) {
      if (device.type == VhostUserType::kNet) {
        return Bad("--vhost-user-net cannot be used with --host_ip, --netmask and --mac");
      }
    }
    config.nets.push_back({.host_ip = config.host_ip,
                           .netmask = config.netmask,
                           .host_mac = config.mac,
                           .vq_pairs = config.net_vq_pairs,
                           .vhost_net = config.vhost_net});
    config.host_ip.reset();
    config.netmask.reset();
    config.mac.reset();
    config.net_vq_pairs = 1;
    config.vhost_net = false;
  }
  if (config.vhost_net) return Bad("--vhost-net goes with --host_ip, --netmask and --mac");
  if (config.net_vq_pairs != 1) {
    return Bad("--net-vq-pairs goes with --host_ip, --netmask and --mac");
  }
  for (const NetOptions& net : config.nets) TRY(CheckNet(net));
  return {};
}

Status CheckSharedDirs(const VmConfig& config) {
  std::vector<std::string_view> tags;
  const auto add = [&](std::string_view option, const std::string& tag) -> Status {
    if (tag.empty()) return Bad("{}: the tag is missing, by which the guest mounts it", option);
    if (std::find(tags.begin(), tags.end(), tag) != tags.end()) {
      return Bad("{}: the tag {} is used twice", option, tag);
    }
    tags.push_back(tag);
    return {};
  };
  for (const SharedDirOptions& dir : config.shared_dirs) {
    if (dir.path.empty()) return Bad("--shared-dir: the path is empty");
    if (dir.path.find(kSharedDirSeparator) != std::string::npos ||
        dir.tag.find(kSharedDirSeparator) != std::string::npos) {
      return Bad("--shared-dir {}: path and tag must not contain a colon; link it to another name",
                 dir.path);
    }
    TRY(CheckSharedDir(dir));
    TRY(add("--shared-dir", dir.tag));
  }
  for (const VhostUserOptions& device : config.vhost_user) {
    if (device.socket.empty())
      return Bad("--vhost-user-{}: the socket is empty", NameOf(device.type));
    if (device.type == VhostUserType::kFs) {
      TRY(add("--vhost-user-fs", device.tag));
    } else if (!device.tag.empty()) {
      return Bad("--vhost-user-{} takes no tag", NameOf(device.type));
    }
  }
  return {};
}

// What only makes sense with `user`.
Status CheckNetUser(const NetOptions& net) {
  if (!net.user) {
    const std::string_view key = !net.hostfwd.empty() ? "hostfwd"
                                 : net.dns            ? "dns"
                                 : net.restrict_all   ? "restrict"
                                 : !net.allow.empty() ? "allow"
                                 : net.host_loopback  ? "host-loopback"
                                                      : "";
    if (!key.empty()) return Bad("--net: {} needs user", key);
    return {};
  }
  for (size_t i = 0; i < net.hostfwd.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const HostForward& one = net.hostfwd[i];
      const HostForward& other = net.hostfwd[j];
      if (one.udp == other.udp && one.host == other.host && one.host_port == other.host_port) {
        return Bad("--net: {} and {} take the same port of the host", other.ToString(),
                   one.ToString());
      }
    }
  }
  constexpr size_t kMostForwards = 64;
  constexpr size_t kMostAllowed = 256;
  if (net.hostfwd.size() > kMostForwards)
    return Bad("--net: {} forwards; {} at most", net.hostfwd.size(), kMostForwards);
  if (net.allow.size() > kMostAllowed)
    return Bad("--net: {} destinations to allow; {} at most", net.allow.size(), kMostAllowed);
  return {};
}

}  // namespace

Status CheckNet(const NetOptions& net) {
  const bool makes_tap = net.host_ip.has_value() || net.netmask.has_value();
  const int sources =
      int{net.user} + int{!net.tap_name.empty()} + int{net.tap_fd.has_value()} + int{makes_tap};
  if (sources == 0) {
    return Bad(
        "--net: say where packets go: user, tap-name=…, tap-fd=…, or host-ip=… with netmask=…");
  }
  if (sources > 1) {
    return Bad("--net: user, tap-name, tap-fd and host-ip exclude each other");
  }
  if (makes_tap && !(net.host_ip && net.netmask))
    return Bad("--net: host-ip and netmask go together");
  if (net.host_mac && !makes_tap)
    return Bad("--net: host-mac is for a new tap, with host-ip and netmask");
  if (net.netmask) {
    const uint32_t inverse = ~net.netmask->value();
    if ((inverse & (inverse + 1)) != 0) {
      return Bad("--net: netmask {} has holes", net.netmask->ToString());
    }
  }
  if (net.tap_name.find_first_of("/, ") != std::string::npos) {
    return Bad("--net: tap-name={} is not the name of an interface", net.tap_name);
  }
  if (net.user && net.vhost_net) return Bad("--net: user and vhost-net exclude each other");
  if (net.user && net.vq_pairs != 1)
    return Bad("--net: user has one pair of queues; leave out vq-pairs");
  TRY(CheckNetUser(net));
  if (net.tap_fd && *net.tap_fd < 3) return Bad("--net: tap-fd={} must be 3 or more", *net.tap_fd);
  return {};
}

Status Validate(VmConfig& config) {
  TRY(CheckBoot(config));
  TRY(CheckCpus(config));
  TRY(CheckMemory(config));
  TRY(CheckDisks(config));
  TRY(CheckSerial(config));
  CompleteSerial(config);
  TRY(CompleteNets(config));
  TRY(CheckSharedDirs(config));
  if (config.vsock && (config.vsock->cid < 3 || config.vsock->cid >= UINT32_MAX)) {
    return Bad("--cid {}: the guest's context id is from 3 to {}", config.vsock->cid,
               UINT32_MAX - 1);
  }
  // The options of a device travel as `key=value,…`.
  if (config.vsock && !config.vsock->path.empty() &&
      config.vsock->device != VsockOptions().device) {
    return Bad("--vsock: path and device exclude each other");
  }
  if (config.vsock && config.vsock->path.find(',') != std::string::npos) {
    return Bad("--vsock: path={} must not contain a comma; link it to another name",
               config.vsock->path);
  }
  return {};
}

std::vector<std::string> DeviceKernelParameters(const VmConfig& config) {
  static constexpr std::string_view kPorts[] = {"0x3f8", "0x2f8", "0x3e8", "0x2e8"};
  std::vector<std::string> params;
  int consoles = 0;
  for (const SerialOptions& port : config.serial) {
    const bool uart = port.hardware == SerialHardware::kSerial;
    if (port.console) {
      params.push_back(uart ? fmt::format("console=ttyS{}", port.num - 1)
                            : fmt::format("console=hvc{}", consoles));
    }
    if (!uart) ++consoles;
    if (port.earlycon && port.num >= 1 && port.num <= kSerialPorts) {
      params.push_back(fmt::format("earlycon=uart8250,io,{}", kPorts[port.num - 1]));
    }
  }
  for (size_t i = 0; i < config.disks.size() && i < kMaxDisks; ++i) {
    if (!config.disks[i].root) continue;
    params.push_back(fmt::format("root=/dev/vd{}", static_cast<char>('a' + i)));
    params.emplace_back(config.disks[i].ro ? "ro" : "rw");
  }
  return params;
}

}  // namespace crosvm::config

#include "cli/run_options.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "codec/key_value.h"

namespace crosvm::cli {
namespace {

using config::VmConfig;
using Apply = Status (*)(VmConfig& config, std::string_view value);

struct RunOption {
  Option option;
  Apply apply = nullptr;
};

// Where most options go: a member of the configuration, by its type.
template <auto kMember>
Status Flag(VmConfig& config, std::string_view) {
  config.*kMember = true;
  return {};
}

template <auto kMember>
Status Text(VmConfig& config, std::string_view value) {
  config.*kMember = std::string(value);
  return {};
}

template <auto kMember>
Status AddText(VmConfig& config, std::string_view value) {
  (config.*kMember).emplace_back(value);
  return {};
}

template <auto kMember, uint64_t kLeast, uint64_t kMost>
Status Number(VmConfig& config, std::string_view value) {
  const uint64_t number = TRY(codec::ParseNumber(value));
  if (number < kLeast || number > kMost) {
    return Fail(ErrorKind::kInvalidArgument, "{} is out of range, {} to {}", number, kLeast, kMost);
  }
  using Member = std::remove_reference_t<decltype(config.*kMember)>;
  if constexpr (requires { typename Member::value_type; }) {
    config.*kMember = static_cast<typename Member::value_type>(number);
  } else {
    config.*kMember = static_cast<Member>(number);
  }
  return {};
}

// A member with a text form, or an optional one.
template <auto kMember, typename T>
Status Parsed(VmConfig& config, std::string_view value) {
  T parsed = TRY(T::Parse(value));
  config.*kMember = std::move(parsed);
  return {};
}

template <auto kMember, typename T, char kSeparator = ','>
Status AddKeyValue(VmConfig& config, std::string_view value) {
  T parsed = TRY(codec::ParseKeyValue<T>(value, {.separator = kSeparator}));
  (config.*kMember).push_back(std::move(parsed));
  return {};
}

template <bool kReadOnly, bool kRoot>
Status AddDisk(VmConfig& config, std::string_view value) {
  config::BlockOptions disk =
      TRY(codec::ParseKeyValue<config::BlockOptions>(value, {}, {.ro = kReadOnly, .root = kRoot}));
  config.disks.push_back(std::move(disk));
  return {};
}

Status AddTapFd(VmConfig& config, std::string_view value) {
  const uint64_t fd = TRY(codec::ParseNumber(value));
  if (fd < 3 || fd > INT32_MAX) {
    return Fail(ErrorKind::kInvalidArgument, "{} is not a descriptor that crosvm could inherit",
                fd);
  }
  config.nets.push_back({.tap_fd = static_cast<int32_t>(fd)});
  return {};
}

Status SetVsock(VmConfig& config, std::string_view value) {
  config.vsock = TRY(codec::ParseKeyValue<config::VsockOptions>(value));
  return {};
}

Status SetCid(VmConfig& config, std::string_view value) {
  const uint64_t cid = TRY(codec::ParseNumber(value));
  if (!config.vsock) config.vsock.emplace();
  config.vsock->cid = cid;
  return {};
}

Status SetVsockDevice(VmConfig& config, std::string_view value) {
  // Without a cid there is no such device, as in the reference.
  if (config.vsock) config.vsock->device = std::string(value);
  return {};
}

template <config::VhostUserType kType>
Status AddVhostUser(VmConfig& config, std::string_view value) {
  config::VhostUserOptions device = {.type = kType, .socket = std::string(value)};
  if constexpr (kType == config::VhostUserType::kFs) {
    const size_t colon = value.find(':');
    if (colon == std::string_view::npos || colon + 1 == value.size()) {
      return Fail(ErrorKind::kInvalidArgument, "the tag is missing: SOCKET:TAG");
    }
    device.socket = std::string(value.substr(0, colon));
    device.tag = std::string(value.substr(colon + 1));
  }
  config.vhost_user.push_back(std::move(device));
  return {};
}

Status DisableSandbox(VmConfig& config, std::string_view) {
  config.sandbox.disabled = true;
  return {};
}
Status LogSeccomp(VmConfig& config, std::string_view) {
  config.sandbox.seccomp_log_failures = true;
  return {};
}
Status SetPolicyDir(VmConfig& config, std::string_view value) {
  config.sandbox.seccomp_policy_dir = std::string(value);
  return {};
}
// A member of the sandbox's options, by its name in DescribeEnum().
template <auto kMember>
Status SandboxChoice(VmConfig& config, std::string_view value) {
  using Choice = std::remove_reference_t<decltype(config.sandbox.*kMember)>;
  std::string known;
  for (const auto& [choice, name] : DescribeEnum(Choice{})) {
    if (name == value) {
      config.sandbox.*kMember = choice;
      return {};
    }
    if (!known.empty()) known += ", ";
    known += name;
  }
  return Fail(ErrorKind::kInvalidArgument, "\"{}\" is none of {}", value, known);
}
Status SetRestarts(VmConfig& config, std::string_view value) {
  const uint64_t number = TRY(codec::ParseNumber(value));
  if (number > UINT32_MAX) return Fail(ErrorKind::kInvalidArgument, "{} is too large", number);
  config.sandbox.device_restarts_per_minute = static_cast<uint32_t>(number);
  return {};
}

Status LoadFile(VmConfig& config, std::string_view value) {
  return config::LoadConfigFile(std::string(value), config);
}
// Options that run_command.cc looks at itself.
Status Nothing(VmConfig&, std::string_view) {
  return {};
}

constexpr std::string_view kNotBuilt = "is not built into this version";
constexpr std::string_view kArm = "is for aarch64 guests and has no meaning on this machine";
constexpr std::string_view kPlugin =
    "is not built into this version: a VM is run by crosvm itself, not by a plugin";

constexpr RunOption Unbuilt(std::string_view name, std::string_view value = {},
                            std::string_view reason = kNotBuilt) {
  return {{.name = name, .value = value, .unbuilt = reason}};
}

using V = VmConfig;

constexpr auto kTable = std::to_array<RunOption>({
    {{.name = "cfg",
      .value = "FILE",
      .help = "read options from a JSON file; what the command line says wins, lists are extended",
      .section = "Configuration"},
     &Nothing},
    {{.name = "dump-config", .help = "print the whole configuration as JSON and exit"}, &Nothing},
    {{.name = "bios",
      .value = "PATH",
      .help = "firmware to run instead of a KERNEL",
      .once = true,
      .section = "Boot"},
     &Text<&V::bios>},
    {{.name = "initrd", .short_name = 'i', .value = "PATH", .help = "initial ramdisk"},
     &Text<&V::initrd>},
    {{.name = "params",
      .short_name = 'p',
      .value = "TEXT",
      .help = "add to the kernel's command line; may be repeated"},
     &AddText<&V::params>},
    {{.name = "acpi-table", .value = "PATH", .help = "add an ACPI table; may be repeated"},
     &AddText<&V::acpi_tables>},
    {{.name = "dmi",
      .value = "DIR",
      .help = "take the SMBIOS tables from smbios_entry_point and DMI in DIR",
      .once = true},
     &Text<&V::dmi>},
    {{.name = "cpus",
      .short_name = 'c',
      .value = "N",
      .help = "number of vCPUs (default 1)",
      .once = true,
      .section = "CPUs and memory"},
     &Number<&V::cpus, 1, 254>},
    {{.name = "cpu-affinity",
      .value = "SET",
      .help = "host CPUs that the vCPUs may run on: 0,2-3 for all, or 0=0:1=2-3 for each",
      .once = true},
     &Parsed<&V::cpu_affinity, config::CpuAffinity>},
    {{.name = "rt-cpus", .value = "SET", .help = "vCPUs with real-time priority", .once = true},
     &Parsed<&V::rt_cpus, config::CpuSet>},
    {{.name = "no-smt", .help = "do not show hyperthreads to the guest"}, &Flag<&V::no_smt>},
    {{.name = "mem",
      .short_name = 'm',
      .value = "MIB",
      .help = "memory of the guest in MiB (default 256)",
      .once = true},
     &Number<&V::mem_mib, 1, (uint64_t{1} << 26)>},
    {{.name = "hugepages", .help = "ask the host for huge pages"}, &Flag<&V::hugepages>},
    {{.name = "root",
      .short_name = 'r',
      .value = "PATH[,KEY=VALUE...]",
      .help = "read-only disk that the kernel mounts as its root; keys: see below",
      .section = "Disks"},
     &AddDisk<true, true>},
    {{.name = "rwroot", .value = "PATH[,KEY=VALUE...]", .help = "writable disk with the root"},
     &AddDisk<false, true>},
    {{.name = "disk", .short_name = 'd', .value = "PATH[,KEY=VALUE...]", .help = "read-only disk"},
     &AddDisk<true, false>},
    {{.name = "rwdisk", .value = "PATH[,KEY=VALUE...]", .help = "writable disk"},
     &AddDisk<false, false>},
    {{.name = "block",
      .value = "PATH[,KEY=VALUE...]",
      .help = "disk, writable and no root unless its keys say so"},
     &AddDisk<false, false>},
    {{.name = "shared-dir",
      .value = "PATH:TAG[:KEY=VALUE...]",
      .help = "directory of the host that the guest mounts by TAG; keys: see below",
      .section = "Shared directories"},
     &AddKeyValue<&V::shared_dirs, config::SharedDirOptions, config::kSharedDirSeparator>},
    {{.name = "net",
      .value = "KEY=VALUE...",
      .help = "network interface; keys: see below; may be repeated",
      .section = "Network"},
     &AddKeyValue<&V::nets, config::NetOptions>},
    {{.name = "host_ip",
      .value = "IP",
      .help = "make a tap interface with this address on the host; with --netmask and --mac",
      .once = true},
     &Parsed<&V::host_ip, config::Ipv4Address>},
    {{.name = "netmask", .value = "NETMASK", .help = "the tap interface's netmask", .once = true},
     &Parsed<&V::netmask, config::Ipv4Address>},
    {{.name = "mac", .value = "MAC", .help = "the host's hardware address on it", .once = true},
     &Parsed<&V::mac, config::MacAddress>},
    {{.name = "net-vq-pairs",
      .value = "N",
      .help = "queue pairs of that interface (default 1)",
      .once = true},
     &Number<&V::net_vq_pairs, 1, 16>},
    {{.name = "vhost-net", .help = "let the host's kernel serve that interface"},
     &Flag<&V::vhost_net>},
    {{.name = "vhost-net-device",
      .value = "PATH",
      .help = "the kernel's device for it (default /dev/vhost-net)"},
     &Text<&V::vhost_net_device>},
    {{.name = "tap-fd", .value = "FD", .help = "an inherited tap descriptor; may be repeated"},
     &AddTapFd},
    {{.name = "cid",
      .value = "CID",
      .help = "virtual socket device with this context id, through the host's kernel",
      .once = true},
     &SetCid},
    {{.name = "vhost-vsock-device",
      .value = "PATH",
      .help = "the kernel's device for it (default /dev/vhost-vsock)"},
     &SetVsockDevice},
    {{.name = "vsock",
      .value = "CID[,KEY=VALUE...]",
      .help = "virtual socket device; keys: see below",
      .once = true},
     &SetVsock},
    {{.name = "serial",
      .value = "KEY=VALUE...",
      .help = "serial port or virtio console; keys: see below. By default port 1 is the kernel's "
              "console on standard input and output",
      .section = "Consoles"},
     &AddKeyValue<&V::serial, config::SerialOptions>},
    {{.name = "vhost-user-blk",
      .value = "SOCKET",
      .help = "disk served by another process",
      .section = "Devices in other processes (vhost-user)"},
     &AddVhostUser<config::VhostUserType::kBlock>},
    {{.name = "vhost-user-net", .value = "SOCKET", .help = "network interface, likewise"},
     &AddVhostUser<config::VhostUserType::kNet>},
    {{.name = "vhost-user-fs", .value = "SOCKET:TAG", .help = "shared directory, likewise"},
     &AddVhostUser<config::VhostUserType::kFs>},
    {{.name = "vhost-user-console", .value = "SOCKET", .help = "console, likewise"},
     &AddVhostUser<config::VhostUserType::kConsole>},
    {{.name = "vhost-user-vsock", .value = "SOCKET", .help = "virtual socket device, likewise"},
     &AddVhostUser<config::VhostUserType::kVsock>},
    // There is none in this version, whether asked for or not.
    {{.name = "no-balloon",
      .help = "no memory balloon (this version has none)",
      .section = "Machine"},
     &Flag<&V::no_balloon>},
    {{.name = "no-rng", .help = "no entropy device"}, &Flag<&V::no_rng>},
    {{.name = "no-legacy", .help = "no clock chip and keyboard controller"}, &Flag<&V::no_legacy>},
    {{.name = "split-irqchip", .help = "interrupt controllers of the machine outside the kernel"},
     &Flag<&V::split_irqchip>},
    {{.name = "kvm-device", .value = "PATH", .help = "KVM (default /dev/kvm)"},
     &Text<&V::kvm_device>},
    {{.name = "disable-sandbox",
      .help = "run the devices in this process: one that a guest breaks then owns the VM's rights",
      .section = "Sandbox"},
     &DisableSandbox},
    {{.name = "seccomp-policy-dir",
      .value = "DIR",
      .help = "use the policies in DIR instead of those that are built in"},
     &SetPolicyDir},
    {{.name = "seccomp-log-failures",
      .help = "log denied system calls instead of ending the device"},
     &LogSeccomp},
    {{.name = "on-device-crash",
      .value = "ACTION",
      .help =
          "when a device fails: restart it, reset (mark it broken for the guest), or stop the VM "
          "(default restart)"},
     &SandboxChoice<&config::SandboxOptions::on_device_crash>},
    {{.name = "device-restarts",
      .value = "N",
      .help = "a device that fails more than N times in a minute is not restarted (default 3)"},
     &SetRestarts},
    {{.name = "jail",
      .value = "MODE",
      .help = "strict, or best-effort: go on where the host refuses a layer of the jail (default "
              "strict)"},
     &SandboxChoice<&config::SandboxOptions::jail>},
    {{.name = "socket",
      .short_name = 's',
      .value = "PATH",
      .help = "control socket for `crosvm stop` and others; in a directory: crosvm-PID.sock",
      .once = true,
      .section = "Control and debugging"},
     &Text<&V::socket>},
    {{.name = "log-level",
      .value = "SPEC",
      .help = "error, warn, info or debug; info,virtio=debug picks a part"},
     &Text<&V::log_level>},
    {{.name = "syslog-tag", .value = "TAG", .help = "log to syslog too, as TAG", .once = true},
     &Text<&V::syslog_tag>},

    // Options of the reference that this version does not have.
    Unbuilt("android-fstab", "PATH", kArm),
    Unbuilt("cpu-cluster", "SET", kArm),
    Unbuilt("cpu-capacity", "CPU=CAP", kArm),
    Unbuilt("protected-vm", {}, "needs a protected hypervisor, which KVM on x86 does not have"),
    Unbuilt("pmem-device", "PATH"),
    Unbuilt("rw-pmem-device", "PATH"),
    Unbuilt("pstore", "path=PATH,size=SIZE"),
    Unbuilt("ac97", "KEY=VALUE"),
    Unbuilt("x-display", "DISPLAY"),
    Unbuilt("display-window-keyboard"),
    Unbuilt("display-window-mouse"),
    Unbuilt("wayland-sock", "PATH"),
    Unbuilt("wayland-dmabuf"),
    Unbuilt("gpu", "[KEY=VALUE]"),
    Unbuilt("gpu-display", "KEY=VALUE"),
    Unbuilt("software-tpm"),
    Unbuilt("evdev", "PATH"),
    Unbuilt("single-touch", "PATH"),
    Unbuilt("multi-touch", "PATH"),
    Unbuilt("trackpad", "PATH"),
    Unbuilt("mouse", "PATH"),
    Unbuilt("keyboard", "PATH"),
    Unbuilt("switches", "PATH"),
    Unbuilt("vfio", "PATH"),
    Unbuilt("gdb", "PORT"),
    Unbuilt("video-decoder"),
    Unbuilt("video-encoder"),
    Unbuilt("battery", "[type=TYPE]"),
    Unbuilt("balloon_bias_mib", "N"),
    Unbuilt("vhost-user-wl", "SOCKET:TUBE"),
    Unbuilt("direct-pmio", "PATH@RANGE"),
    Unbuilt("direct-level-irq", "IRQ"),
    Unbuilt("direct-edge-irq", "IRQ"),
    Unbuilt("plugin", "PATH", kPlugin),
    Unbuilt("plugin-root", "PATH", kPlugin),
    Unbuilt("plugin-mount", "SRC:DST:BOOL", kPlugin),
    Unbuilt("plugin-mount-file", "PATH", kPlugin),
    Unbuilt("plugin-gid-map", "INNER:OUTER:COUNT", kPlugin),
    Unbuilt("plugin-gid-map-file", "PATH", kPlugin),
});

constexpr auto kOptions = [] {
  std::array<Option, kTable.size()> options;
  for (size_t i = 0; i < kTable.size(); ++i) options[i] = kTable[i].option;
  return options;
}();

template <Described T>
void AppendGrammar(std::string& text, std::string_view title, char separator = ',') {
  text += fmt::format("{}:\n{}\n", title, codec::HelpOf<T>({.separator = separator}));
}

}  // namespace

std::span<const Option> RunOptions() {
  return kOptions;
}

namespace {

// Ports have numbers: one of the command line takes the place of a file's.
void AddPortsOfFiles(VmConfig& config, const std::vector<config::SerialOptions>& ports) {
  const std::vector<config::SerialOptions> given = config.serial;
  std::copy_if(ports.begin(), ports.end(), std::back_inserter(config.serial),
               [&given](const config::SerialOptions& port) {
                 return std::none_of(given.begin(), given.end(), [&port](const auto& other) {
                   return config::IsSamePort(other, port);
                 });
               });
}

}  // namespace

Status ApplyRunOptions(const Arguments& arguments, VmConfig& config) {
  for (const Given& given : arguments.options) {
    if (kOptions[given.option].name == "cfg") {
      TRY_CONTEXT(LoadFile(config, given.value), "--cfg");
    }
  }
  const std::vector<config::SerialOptions> ports_of_files = std::exchange(config.serial, {});
  // The device's path goes into the device, whichever of the two options came first.
  std::string_view vsock_device;
  for (const Given& given : arguments.options) {
    const RunOption& option = kTable[given.option];
    if (option.option.name == "vhost-vsock-device") vsock_device = given.value;
    const bool with_value = !given.value.empty();
    TRY_CONTEXT(option.apply(config, given.value), "--{}{}{}", option.option.name,
                with_value ? " " : "", given.value);
  }
  if (!vsock_device.empty()) TRY(SetVsockDevice(config, vsock_device));
  AddPortsOfFiles(config, ports_of_files);
  return {};
}

std::string RunOptionGrammars() {
  std::string text;
  AppendGrammar<config::BlockOptions>(text, "Keys of --root, --rwroot, --disk, --rwdisk, --block");
  AppendGrammar<config::SharedDirOptions>(text, "Keys of --shared-dir, separated by colons",
                                          config::kSharedDirSeparator);
  AppendGrammar<config::NetOptions>(text, "Keys of --net");
  AppendGrammar<config::VsockOptions>(text, "Keys of --vsock");
  AppendGrammar<config::SerialOptions>(text, "Keys of --serial");
  return text;
}

}  // namespace crosvm::cli

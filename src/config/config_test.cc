#include <gtest/gtest.h>
#include <unistd.h>

#include "codec/key_value.h"
#include "config/vm_config.h"

namespace crosvm::config {
namespace {

VmConfig Minimal() {
  VmConfig config;
  config.kernel = "vmlinuz";
  return config;
}

std::string Problem(VmConfig config) {
  const Status status = Validate(config);
  return status ? "none" : status.error().ToString();
}

TEST(Validate, CompletesSerialPorts) {
  VmConfig config = Minimal();
  ASSERT_TRUE(Validate(config));
  ASSERT_EQ(config.serial.size(), 4u);
  EXPECT_EQ(config.serial[0].type, SerialType::kStdout);
  EXPECT_TRUE(config.serial[0].console && config.serial[0].use_stdin);
  for (size_t i = 1; i < 4; ++i) {
    EXPECT_EQ(config.serial[i].type, SerialType::kSink);
    EXPECT_EQ(config.serial[i].num, i + 1);
  }
  const VmConfig once = config;
  ASSERT_TRUE(Validate(config));
  EXPECT_EQ(config, once);
}

TEST(Validate, ConsoleElsewhereLeavesTheFirstPortAlone) {
  VmConfig config = Minimal();
  config.serial.push_back({.hardware = SerialHardware::kVirtioConsole, .console = true});
  ASSERT_TRUE(Validate(config));
  EXPECT_EQ(config.serial.size(), 5u);
  EXPECT_EQ(config.serial[1].type, SerialType::kSink);
  EXPECT_EQ(DeviceKernelParameters(config), (std::vector<std::string>{"console=hvc0"}));
}

TEST(Validate, StandardInputIsNotTakenTwice) {
  VmConfig config = Minimal();
  config.serial.push_back({.num = 2, .use_stdin = true});
  ASSERT_TRUE(Validate(config));
  EXPECT_EQ(config.serial[0].num, 1);
  EXPECT_FALSE(config.serial[0].use_stdin);
}

TEST(Validate, PortsAreInTheOrderOfTheirNumbers) {
  VmConfig config = Minimal();
  config.serial = {{.type = SerialType::kFile,
                    .hardware = SerialHardware::kVirtioConsole,
                    .num = 3,
                    .path = "log"},
                   {.hardware = SerialHardware::kVirtioConsole, .num = 2, .console = true}};
  ASSERT_TRUE(Validate(config));
  EXPECT_EQ(config.serial[4].num, 2);
  EXPECT_EQ(config.serial[5].num, 3);
  // The guest counts from 0, whatever the numbers are.
  EXPECT_EQ(DeviceKernelParameters(config), (std::vector<std::string>{"console=hvc0"}));
}

TEST(Validate, SerialCrossChecks) {
  VmConfig config = Minimal();
  config.serial = {{.num = 1}, {.num = 1}};
  EXPECT_EQ(Problem(config), "--serial: serial 1 is given twice; choose another num");
  config.serial = {{.num = 1, .console = true}, {.num = 2, .console = true}};
  EXPECT_EQ(Problem(config), "--serial: console is set for serial 1 and for serial 2; choose one");
  config.serial = {{.num = 5}};
  EXPECT_EQ(Problem(config), "--serial num=5: there are 4 serial ports");
  config.serial = {{.hardware = SerialHardware::kVirtioConsole, .num = 5}};
  EXPECT_EQ(Problem(config), "none");
  config.serial = {{.hardware = SerialHardware::kVirtioConsole, .earlycon = true}};
  EXPECT_NE(Problem(config), "none");
  config.serial = {{.input = "x", .use_stdin = true}};
  EXPECT_NE(Problem(config), "none");
  config.serial = {{.type = SerialType::kFile}};
  EXPECT_EQ(Problem(config), "--serial serial 1: type=file needs path=…");
}

TEST(Validate, BootNeedsExactlyOneThing) {
  VmConfig config;
  EXPECT_EQ(Problem(config), "there is nothing to boot: give the path of a KERNEL, or --bios PATH");
  config.kernel = "k";
  config.bios = "b";
  EXPECT_NE(Problem(config), "none");
}

TEST(Validate, TheNetTripleGoesTogether) {
  VmConfig config = Minimal();
  config.host_ip = Ipv4Address::Parse("10.0.0.1").value();
  EXPECT_EQ(Problem(config), "--host_ip, --netmask and --mac go together; --netmask is missing");
  config.netmask = Ipv4Address::Parse("255.255.255.0").value();
  config.mac = MacAddress::Parse("52:54:00:00:00:01").value();
  ASSERT_TRUE(Validate(config));
  ASSERT_EQ(config.nets.size(), 1u);
  EXPECT_FALSE(config.host_ip.has_value());
  EXPECT_EQ(config.nets[0].host_ip->ToString(), "10.0.0.1");
  // As in the reference, the address is the host's; the guest's is chosen.
  EXPECT_TRUE(config.nets[0].host_mac.has_value());
  EXPECT_FALSE(config.nets[0].mac.has_value());
}

TEST(Validate, NetSourcesExcludeEachOther) {
  VmConfig config = Minimal();
  config.nets = {{}};
  EXPECT_NE(Problem(config), "none");
  config.nets = {{.user = true}};
  EXPECT_EQ(Problem(config), "none");
  config.nets = {{.user = true, .tap_name = "tap0"}};
  EXPECT_NE(Problem(config), "none");
  config.nets = {{.host_ip = Ipv4Address::Parse("10.0.0.1").value(),
                  .netmask = Ipv4Address::Parse("255.0.255.0").value()}};
  EXPECT_EQ(Problem(config), "--net: netmask 255.0.255.0 has holes");
  config.nets = {{.tap_name = "tap0", .host_mac = MacAddress::Parse("52:54:00:00:00:01").value()}};
  EXPECT_EQ(Problem(config), "--net: host-mac is for a new tap, with host-ip and netmask");
}

TEST(Validate, WhatWouldBeIgnoredIsRefused) {
  VmConfig config = Minimal();
  config.vhost_net = true;
  EXPECT_EQ(Problem(config), "--vhost-net goes with --host_ip, --netmask and --mac");
  config = Minimal();
  config.net_vq_pairs = 2;
  EXPECT_EQ(Problem(config), "--net-vq-pairs goes with --host_ip, --netmask and --mac");
  config = Minimal();
  config.bios = std::exchange(config.kernel, "");
  config.params = {"quiet"};
  EXPECT_EQ(Problem(config), "--params \"quiet\" needs a kernel; a firmware (--bios) takes none");
}

TEST(Validate, KeysOfVirtioFsAreNotFor9p) {
  VmConfig config = Minimal();
  config.shared_dirs = {{.path = "a", .tag = "t", .type = SharedDirType::k9p}};
  EXPECT_EQ(Problem(config), "none");
  const auto with = [&](auto set) {
    config.shared_dirs = {{.path = "a", .tag = "t"}};
    set(config.shared_dirs[0]);
    const std::string nine = Problem(config);
    config.shared_dirs[0].type = SharedDirType::kFs;
    EXPECT_EQ(Problem(config), "none");
    return nine;
  };
  using O = SharedDirOptions;
  EXPECT_NE(with([](O& o) { o.cache = FsCache::kAlways; }).find("cache is"), std::string::npos);
  EXPECT_NE(with([](O& o) { o.timeout = 1; }).find("timeout is"), std::string::npos);
  EXPECT_NE(with([](O& o) { o.writeback = true; }).find("writeback is"), std::string::npos);
  EXPECT_NE(with([](O& o) { o.posix_acl = true; }).find("posix_acl is"), std::string::npos);
  EXPECT_NE(with([](O& o) { o.queues = 2; }).find("queues is"), std::string::npos);
  EXPECT_NE(with([](O& o) { o.dax = FsDax::kAlways; }).find("dax is"), std::string::npos);
  config.shared_dirs = {
      {.path = "a", .tag = "t", .type = SharedDirType::kFs, .dax = FsDax::kAlways}};
  config.shared_dirs[0].dax_window = 3;
  EXPECT_EQ(Problem(config), "--shared-dir a: dax-window=3 is odd; the guest maps 2 MiB at a time");
}

TEST(Validate, RootLetterFollowsTheOrderOfDisks) {
  VmConfig config = Minimal();
  config.disks = {{.path = "a", .ro = true}, {.path = "b", .root = true}};
  ASSERT_TRUE(Validate(config));
  EXPECT_EQ(DeviceKernelParameters(config),
            (std::vector<std::string>{"console=ttyS0", "root=/dev/vdb", "rw"}));
  config.disks[0].root = true;
  EXPECT_NE(Problem(config), "none");
  config.disks.assign(27, {.path = "x"});
  EXPECT_EQ(Problem(config), "none");
  config.disks[26].root = true;
  EXPECT_EQ(Problem(config), "disk x: only the first 26 disks can be the root");
}

TEST(Validate, Hostile_OptionsOfADiskCannotBeSmuggledThroughItsPath) {
  VmConfig config = Minimal();
  config.disks = {{.path = "a,ro=false", .ro = true}};
  EXPECT_NE(Problem(config), "none");
  config.shared_dirs = {{.path = "a:b", .tag = "t"}};
  config.disks.clear();
  EXPECT_NE(Problem(config), "none");
}

TEST(BlockOptions, DeviceOptionDropsRoot) {
  const BlockOptions options =
      codec::ParseKeyValue<BlockOptions>("a.img,root,ro,block_size=4096").value();
  EXPECT_EQ(DeviceOption(options), "a.img,ro=true,block_size=4096");
}

TEST(ConfigFile, OverridesWhatItNames) {
  VmConfig config = Minimal();
  config.cpus = 3;
  ASSERT_TRUE(LoadConfigText(R"({ // the small one
    "mem": 512, "cpu_affinity": "0=1", "mac": "52:54:00:00:00:01",
    "disks": [{"path": "a.img", "root": true}], "serial": [{"type": "sink", "num": 2}],
    "sandbox": {"disabled": true}, "vsock": {"cid": 5}})",
                             "vm.json", config));
  EXPECT_EQ(config.mem_mib, 512u);
  EXPECT_EQ(config.cpus, 3u);
  EXPECT_EQ(config.kernel, "vmlinuz");
  EXPECT_TRUE(config.disks[0].root);
  EXPECT_TRUE(config.sandbox.disabled);
  EXPECT_EQ(config.vsock->cid, 5u);
}

TEST(ConfigFile, DumpIsReadBack) {
  VmConfig config = Minimal();
  config.cpu_affinity = CpuAffinity::Parse("0-2").value();
  config.rt_cpus = CpuSet::Parse("0").value();
  config.disks = {{.path = "a", .id = "x"}};
  ASSERT_TRUE(Validate(config));
  VmConfig copy;
  ASSERT_TRUE(LoadConfigText(DumpConfig(config), "dump", copy));
  EXPECT_EQ(copy, config);
}

TEST(ConfigFile, Hostile_ErrorsNameFileAndField) {
  const auto problem = [](std::string_view text) {
    VmConfig config;
    const Status status = LoadConfigText(text, "vm.json", config);
    return status ? "none" : status.error().ToString();
  };
  EXPECT_TRUE(problem(R"({"memory":1})")
                  .starts_with("vm.json: \"memory\" is not known here; known are: kernel, bios,"));
  EXPECT_EQ(problem(R"({"disks":[{"path":"a","queues":99}]})"),
            "vm.json: disks: item 0: queues: 99 is out of range, 1 to 16");
  EXPECT_EQ(problem(R"({"cpus":0})"), "vm.json: cpus: 0 is out of range, 1 to 254");
  EXPECT_NE(problem("{"), "none");
  EXPECT_NE(problem("[]"), "none");
}

TEST(CheckPaths, NamesWhatIsMissing) {
  VmConfig config = Minimal();
  config.kernel = "/nonexistent/vmlinuz";
  EXPECT_EQ(CheckPaths(config).error().ToString(),
            "kernel /nonexistent/vmlinuz: no such file or directory");
  config.kernel = "/proc/self/exe";
  config.kvm_device = "/dev/null";
  ASSERT_TRUE(CheckPaths(config));
  config.socket = "/proc/self/exe";
  EXPECT_FALSE(CheckPaths(config));
  config.socket = "/tmp";
  ASSERT_TRUE(CheckPaths(config));
  EXPECT_EQ(config.socket, fmt::format("/tmp/crosvm-{}.sock", getpid()));
  config.shared_dirs = {{.path = "/proc/self/exe", .tag = "t"}};
  EXPECT_FALSE(CheckPaths(config));
}

}  // namespace
}  // namespace crosvm::config

#include "cli/run_options.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <set>

#include "sys/file.h"

namespace crosvm::cli {
namespace {

using config::VmConfig;

Result<VmConfig> CommandLine(std::vector<std::string_view> words) {
  const Grammar grammar = {
      .options = RunOptions(), .options_first = true, .positional_name = "KERNEL"};
  const Arguments arguments = TRY(ParseArguments(grammar, words));
  Result<VmConfig> config(std::in_place);
  TRY(ApplyRunOptions(arguments, *config));
  return config;
}

std::string Problem(std::vector<std::string_view> words) {
  const Result<VmConfig> config = CommandLine(std::move(words));
  return config ? "none" : config.error().ToString();
}

TEST(RunOptions, NoNameOrLetterTwice) {
  std::set<std::string_view> names;
  std::set<char> letters;
  for (const Option& option : RunOptions()) {
    EXPECT_TRUE(names.insert(option.name).second) << option.name;
    if (option.short_name != 0) {
      EXPECT_TRUE(letters.insert(option.short_name).second);
    }
    EXPECT_NE(option.help.empty(), option.unbuilt.empty()) << option.name;
  }
}

TEST(RunOptions, EveryOptionOfTheReferenceIsKnown) {
  std::set<std::string_view> names;
  for (const Option& option : RunOptions()) names.insert(option.name);
  for (const std::string_view name : {"kvm-device",
                                      "vhost-vsock-device",
                                      "vhost-net-device",
                                      "android-fstab",
                                      "initrd",
                                      "params",
                                      "cpus",
                                      "cpu-affinity",
                                      "cpu-cluster",
                                      "cpu-capacity",
                                      "no-smt",
                                      "rt-cpus",
                                      "mem",
                                      "hugepages",
                                      "root",
                                      "rwroot",
                                      "disk",
                                      "rwdisk",
                                      "pmem-device",
                                      "rw-pmem-device",
                                      "pstore",
                                      "host_ip",
                                      "netmask",
                                      "mac",
                                      "net-vq-pairs",
                                      "vhost-net",
                                      "tap-fd",
                                      "ac97",
                                      "serial",
                                      "syslog-tag",
                                      "x-display",
                                      "display-window-keyboard",
                                      "display-window-mouse",
                                      "wayland-sock",
                                      "wayland-dmabuf",
                                      "socket",
                                      "disable-sandbox",
                                      "cid",
                                      "shared-dir",
                                      "seccomp-policy-dir",
                                      "seccomp-log-failures",
                                      "plugin",
                                      "plugin-root",
                                      "plugin-mount",
                                      "plugin-mount-file",
                                      "plugin-gid-map",
                                      "plugin-gid-map-file",
                                      "gpu",
                                      "gpu-display",
                                      "software-tpm",
                                      "evdev",
                                      "single-touch",
                                      "multi-touch",
                                      "trackpad",
                                      "mouse",
                                      "keyboard",
                                      "switches",
                                      "split-irqchip",
                                      "bios",
                                      "vfio",
                                      "video-decoder",
                                      "video-encoder",
                                      "acpi-table",
                                      "protected-vm",
                                      "battery",
                                      "gdb",
                                      "balloon_bias_mib",
                                      "vhost-user-blk",
                                      "vhost-user-console",
                                      "vhost-user-net",
                                      "vhost-user-wl",
                                      "vhost-user-fs",
                                      "direct-pmio",
                                      "direct-level-irq",
                                      "direct-edge-irq",
                                      "dmi",
                                      "no-legacy"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
}

// What each option takes, for the walk over the table. Those that take anything: "x".
std::string_view SampleOf(std::string_view name) {
  constexpr std::pair<std::string_view, std::string_view> kSamples[] = {
      {"cpus", "2"},
      {"cpu-affinity", "0"},
      {"rt-cpus", "0"},
      {"mem", "512"},
      {"shared-dir", "/x:tag"},
      {"net", "tap-name=t"},
      {"host_ip", "10.0.0.1"},
      {"netmask", "255.0.0.0"},
      {"mac", "52:54:00:00:00:01"},
      {"net-vq-pairs", "2"},
      {"tap-fd", "3"},
      {"cid", "3"},
      {"vsock", "3"},
      {"serial", "type=sink"},
      {"vhost-user-fs", "/x:tag"},
      {"on-device-crash", "stop"},
      {"device-restarts", "7"},
      {"jail", "best-effort"},
  };
  for (const auto& [known, sample] : kSamples) {
    if (known == name) return sample;
  }
  return "x";
}

TEST(RunOptions, EachChangesTheConfigurationOrIsRefusedWithAReason) {
  for (const Option& option : RunOptions()) {
    // These are for the command itself.
    if (option.name == "cfg" || option.name == "dump-config") continue;
    // Counts with --cid alone.
    const bool vsock_device = option.name == "vhost-vsock-device";
    std::vector<std::string_view> words;
    if (vsock_device) words = {"--cid", "3"};
    const auto before = CommandLine(words);
    const std::string flag = fmt::format("--{}", option.name);
    words.push_back(flag);
    if (!option.value.empty()) words.push_back(SampleOf(option.name));
    const Result<VmConfig> after = CommandLine(words);
    if (!option.unbuilt.empty()) {
      EXPECT_FALSE(after) << option.name;
      EXPECT_NE(Problem(words).find(option.unbuilt), std::string::npos) << option.name;
      continue;
    }
    ASSERT_TRUE(after) << option.name << ": " << Problem(words);
    EXPECT_FALSE(*after == *before) << option.name << " changes nothing";
  }
}

TEST(RunOptions, FillTheConfiguration) {
  const VmConfig config = CommandLine({"-c",
                                       "4",
                                       "-m",
                                       "512",
                                       "-p",
                                       "a",
                                       "-p",
                                       "b=c",
                                       "-i",
                                       "initrd",
                                       "-s",
                                       "/tmp/x",
                                       "--no-smt",
                                       "--hugepages",
                                       "--split-irqchip",
                                       "--cpu-affinity",
                                       "0=1:1=2",
                                       "--rt-cpus",
                                       "0-1",
                                       "--syslog-tag",
                                       "t",
                                       "--disable-sandbox",
                                       "--seccomp-log-failures",
                                       "--acpi-table",
                                       "x",
                                       "--on-device-crash=stop",
                                       "--net-vq-pairs",
                                       "2"})
                              .value();
  EXPECT_EQ(config.cpus, 4u);
  EXPECT_EQ(config.mem_mib, 512u);
  EXPECT_EQ(config.params, (std::vector<std::string>{"a", "b=c"}));
  EXPECT_EQ(config.initrd, "initrd");
  EXPECT_EQ(config.socket, "/tmp/x");
  EXPECT_TRUE(config.no_smt && config.hugepages && config.split_irqchip);
  EXPECT_EQ(config.cpu_affinity.per_vcpu.size(), 2u);
  EXPECT_EQ(config.rt_cpus.cpus.size(), 2u);
  EXPECT_TRUE(config.sandbox.disabled && config.sandbox.seccomp_log_failures);
  EXPECT_EQ(config.sandbox.on_device_crash, config::OnDeviceCrash::kStop);
  EXPECT_EQ(config.net_vq_pairs, 2);
}

TEST(RunOptions, DisksInOrderWithTheirKinds) {
  const VmConfig config =
      CommandLine({"-d", "a,sparse=false,block_size=4096,id=x", "--rwdisk", "b", "-r", "c",
                   "--block", "d,ro,direct,engine=pool", "--disk", "e,ro=false"})
          .value();
  ASSERT_EQ(config.disks.size(), 5u);
  EXPECT_EQ(config.disks[0],
            (config::BlockOptions{
                .path = "a", .ro = true, .sparse = false, .block_size = 4096, .id = "x"}));
  EXPECT_FALSE(config.disks[1].ro);
  EXPECT_TRUE(config.disks[2].ro && config.disks[2].root);
  EXPECT_TRUE(config.disks[3].ro && config.disks[3].direct);
  EXPECT_EQ(config.disks[3].engine, config::BlockEngine::kPool);
  EXPECT_FALSE(config.disks[4].ro);
  EXPECT_TRUE(CommandLine({"--rwroot", "x"})->disks[0].root);
}

TEST(RunOptions, SerialGrammarOfTheReference) {
  const VmConfig config =
      CommandLine({"--serial", "type=unix,path=/tmp/a=b,num=2", "--serial",
                   "type=Stdout,hardware=virtio-console,num=1,console,stdin=true", "--serial",
                   "type=File,path=/x,input=/y,earlycon=true"})
          .value();
  EXPECT_EQ(config.serial[0].path, "/tmp/a=b");
  EXPECT_EQ(config.serial[0].type, config::SerialType::kUnix);
  EXPECT_TRUE(config.serial[1].console && config.serial[1].use_stdin);
  EXPECT_EQ(config.serial[2].input, "/y");
  EXPECT_EQ(Problem({"--serial", "type=stdout,num=0"}),
            "--serial type=stdout,num=0: num: 0 is out of range, 1 to 255");
  EXPECT_EQ(Problem({"--serial", "hardware=serial"}),
            "--serial hardware=serial: \"type\" is missing");
  EXPECT_NE(Problem({"--serial", "type=tty"}), "none");
}

TEST(RunOptions, SharedDirGrammarOfTheReference) {
  const VmConfig config =
      CommandLine({"--shared-dir", "/srv:data", "--shared-dir",
                   "/x:y:type=fs:uidmap=0 1000 1,1 100000 10:timeout=7:cache=always:writeback=true:"
                   "rewrite-security-xattrs=true:ascii_casefold=false"})
          .value();
  EXPECT_EQ(config.shared_dirs[0].tag, "data");
  EXPECT_EQ(config.shared_dirs[0].type, config::SharedDirType::k9p);
  EXPECT_EQ(config.shared_dirs[0].timeout, 5u);
  const config::SharedDirOptions& fs = config.shared_dirs[1];
  EXPECT_EQ(fs.type, config::SharedDirType::kFs);
  EXPECT_EQ(fs.uidmap, "0 1000 1,1 100000 10");
  EXPECT_EQ(fs.timeout, 7u);
  EXPECT_TRUE(fs.writeback && fs.rewrite_security_xattrs);
  EXPECT_EQ(fs.dax, config::FsDax::kNever);
  const config::SharedDirOptions dax =
      CommandLine({"--shared-dir", "/x:y:type=fs:dax=always:dax-window=64"})->shared_dirs[0];
  EXPECT_EQ(dax.dax, config::FsDax::kAlways);
  EXPECT_EQ(dax.dax_window, 64u);
  EXPECT_NE(Problem({"--shared-dir", "/x:y:type=fs:dax=always:dax-window=0"}), "none");
  EXPECT_NE(Problem({"--shared-dir", "/x:y:type=fs:dax=always:dax-window=16386"}), "none");
  EXPECT_EQ(Problem({"--shared-dir", "/srv"}), "--shared-dir /srv: \"tag\" is missing");
  EXPECT_EQ(CommandLine({"--shared-dir", "/srv:t:type=P9"})->shared_dirs[0].type,
            config::SharedDirType::k9p);
}

TEST(RunOptions, Network) {
  const VmConfig config =
      CommandLine({"--host_ip", "10.0.0.1", "--netmask", "255.255.255.0", "--mac",
                   "52:54:00:00:00:01", "--tap-fd", "7", "--net", "user", "--net",
                   "tap-name=tap0,mac=52:54:00:00:00:02,vq-pairs=2"})
          .value();
  EXPECT_TRUE(config.host_ip && config.netmask && config.mac);
  EXPECT_EQ(config.nets[0].tap_fd, 7);
  EXPECT_TRUE(config.nets[1].user);
  EXPECT_EQ(config.nets[2].vq_pairs, 2);
  EXPECT_EQ(Problem({"--tap-fd", "1"}),
            "--tap-fd 1: 1 is not a descriptor that crosvm could inherit");
  EXPECT_NE(Problem({"--mac", "52:54"}), "none");
}

TEST(RunOptions, VsockInEitherOrder) {
  EXPECT_EQ(CommandLine({"--cid", "5", "--vhost-vsock-device", "/x"})->vsock->device, "/x");
  EXPECT_EQ(CommandLine({"--vhost-vsock-device", "/x", "--cid", "5"})->vsock->device, "/x");
  EXPECT_FALSE(CommandLine({"--vhost-vsock-device", "/x"})->vsock);
  EXPECT_EQ(CommandLine({"--vsock", "cid=5,path=/tmp/v"})->vsock->path, "/tmp/v");
}

TEST(RunOptions, VhostUser) {
  const VmConfig config =
      CommandLine({"--vhost-user-blk", "/a", "--vhost-user-fs", "/b:tag", "--vhost-user-net", "/c"})
          .value();
  EXPECT_EQ(config.vhost_user[1].socket, "/b");
  EXPECT_EQ(config.vhost_user[1].tag, "tag");
  EXPECT_EQ(Problem({"--vhost-user-fs", "/b"}),
            "--vhost-user-fs /b: the tag is missing: SOCKET:TAG");
}

TEST(RunOptions, ErrorsNameTheOption) {
  EXPECT_EQ(Problem({"--cpus", "two"}), "--cpus two: \"two\" is not a whole number");
  EXPECT_EQ(Problem({"--cpus", "0"}), "--cpus 0: 0 is out of range, 1 to 254");
  EXPECT_EQ(Problem({"--gpu"}), "--gpu is not built into this version");
  EXPECT_EQ(Problem({"--disk", "x,foo=1"}),
            "--disk x,foo=1: \"foo\" is not a known key; known are: path, ro, root, sparse, "
            "block_size, id, direct, queues, engine");
  EXPECT_EQ(Problem({"--disk", "x,id=123456789012345678901"}),
            "--disk x,id=123456789012345678901: id: 21 bytes are too long, at most 20 are allowed");
}

TEST(RunOptions, TheCommandLineWinsOverTheFile) {
  std::string path = "/tmp/crosvm_cli_test_XXXXXX";
  const sys::UniqueFd file(mkstemp(path.data()));
  ASSERT_TRUE(sys::WriteAll(file, R"({"cpus": 2, "mem": 64, "disks": [{"path": "a"}],
      "serial": [{"type": "sink", "num": 1}, {"type": "sink", "num": 2}]})"));
  const Result<VmConfig> config =
      CommandLine({"--cpus", "3", "--rwdisk", "b", "--serial", "type=stdout,num=2", "--cfg", path});
  const std::string missing = Problem({"--cfg", path + "x"});
  unlink(path.c_str());
  ASSERT_TRUE(config);
  EXPECT_EQ(config->cpus, 3u);
  EXPECT_EQ(config->mem_mib, 64u);
  ASSERT_EQ(config->disks.size(), 2u);
  EXPECT_EQ(config->disks[1].path, "b");
  ASSERT_EQ(config->serial.size(), 2u);
  EXPECT_EQ(config->serial[0],
            (config::SerialOptions{.type = config::SerialType::kStdout, .num = 2}));
  EXPECT_EQ(config->serial[1].num, 1);
  EXPECT_TRUE(missing.starts_with("--cfg: opening " + path));
}

}  // namespace
}  // namespace crosvm::cli

// The one table of subcommands.
#include "cli/commands.h"

#include "cli/run_options.h"

namespace crosvm::cli {
namespace {

constexpr Option kTimeout = {
    .name = "timeout", .value = "SECONDS", .help = "wait so long for the VM's answer (default 10)"};
constexpr Option kTimeoutOnly[] = {kTimeout};
constexpr Option kPowerbtnOptions[] = {
    kTimeout,
    {.name = "wait",
     .value = "SECONDS",
     .help = "then wait until the VM has ended; status 1 if it has not"}};
constexpr Option kDoctorOptions[] = {{.name = "json", .help = "print JSON"}};
constexpr Option kJsonOnly[] = {{.name = "json", .help = "print JSON"}};
constexpr Option kPsOptions[] = {kTimeout, {.name = "json", .help = "print JSON"}};
constexpr Option kDeviceOptions[] = {{.name = "socket-path",
                                      .value = "PATH",
                                      .help = "vhost-user socket to listen on",
                                      .once = true}};

std::string RunMoreHelp() {
  return RunOptionGrammars() +
         "Exit status:\n"
         "  0   the VM was stopped (also by SIGTERM or SIGINT), or the guest powered off\n"
         "  1   an error; the message says which\n"
         "  32  the guest asked for a reset, or ended in a triple fault\n"
         "  33  a virtual CPU could not go on, or a device failed (--on-device-crash=stop)\n"
         "  34  the guest's kernel panicked\n"
         "  35  the arguments are wrong\n"
         "  36  a watchdog expired (no VM of this version has one)\n"
         "\n"
         "Examples:\n"
         "  crosvm run --root rootfs.img --mem 1024 --cpus 2 vmlinuz\n"
         "  crosvm run --rwdisk data.img,direct --net user --socket /tmp/vm.sock vmlinuz\n"
         "  crosvm run --shared-dir /srv:data:type=fs -p 'root=data rootfstype=virtiofs' vmlinuz\n";
}

std::span<const Command> Table() {
  static const Command kCommands[] = {
      {.name = "run",
       .positionals = "[OPTIONS] [KERNEL]",
       .summary = "build a VM and run it until it ends",
       .details = "KERNEL is a Linux bzImage or ELF file. Options stand before it.",
       .options = RunOptions(),
       .max_positionals = 1,
       .options_first = true,
       .run = &RunVmCommand,
       .more_help = &RunMoreHelp},
      {.name = "stop",
       .positionals = "SOCKET",
       .summary = "end a VM at once, without asking the guest",
       .details =
           "SOCKET is what `crosvm run --socket` made. To let the guest shut down: powerbtn.",
       .options = kTimeoutOnly,
       .min_positionals = 1,
       .max_positionals = 1,
       .run = &StopCommand},
      {.name = "powerbtn",
       .positionals = "[OPTIONS] SOCKET",
       .summary = "press the guest's power button, so that it shuts down",
       .details = {},
       .options = kPowerbtnOptions,
       .min_positionals = 1,
       .max_positionals = 1,
       .run = &PowerbtnCommand},
      {.name = "suspend",
       .positionals = "SOCKET",
       .summary = "stop a VM's CPUs until resume",
       .details = {},
       .options = kTimeoutOnly,
       .min_positionals = 1,
       .max_positionals = 1,
       .run = &SuspendCommand},
      {.name = "resume",
       .positionals = "SOCKET",
       .summary = "let a suspended VM go on",
       .details = {},
       .options = kTimeoutOnly,
       .min_positionals = 1,
       .max_positionals = 1,
       .run = &ResumeCommand},
      {.name = "balloon",
       .positionals = "SIZE SOCKET",
       .summary = "take SIZE bytes of memory from the guest (no VM of this version can)",
       .details = "SIZE is the balloon's new size in bytes, or with a suffix K, M, G or T.",
       .options = kTimeoutOnly,
       .min_positionals = 2,
       .max_positionals = 2,
       .run = &BalloonCommand},
      {.name = "balloon_stats",
       .positionals = "SOCKET",
       .summary = "print the guest's memory statistics as JSON (no VM of this version can)",
       .details = {},
       .options = kTimeoutOnly,
       .min_positionals = 1,
       .max_positionals = 1,
       .run = &BalloonStatsCommand},
      {.name = "disk",
       .positionals = "resize INDEX SIZE SOCKET",
       .summary = "change the size of a disk of a running VM",
       .details =
           "INDEX counts the disks in the order of the command line, from 0. SIZE is in bytes, or "
           "has a suffix K, M, G or T.",
       .options = kTimeoutOnly,
       .min_positionals = 4,
       .max_positionals = 4,
       .run = &DiskCommand},
      {.name = "vsock",
       .positionals = "connect SOCKET PORT",
       .summary = "connect standard input and output to a port of a guest",
       .details = "SOCKET is the folder that the VM's --vsock cid=CID,path=FOLDER names, or the "
                  "socket `connect` in it. Ends when the guest closes the stream; the end of the "
                  "input closes our half of it.",
       .min_positionals = 3,
       .max_positionals = 3,
       .run = &VsockCommand},
      {.name = "net",
       .positionals = "[OPTIONS] [forward|unforward INDEX FORWARD] SOCKET",
       .summary = "show the network interfaces of a VM, or change their port forwards",
       .details =
           "INDEX counts the interfaces in the order of the command line, from 0. FORWARD is as in "
           "--net user,hostfwd=: tcp|udp:[ADDRESS]:PORT-[GUEST]:PORT.",
       .options = kJsonOnly,
       .min_positionals = 1,
       .max_positionals = 4,
       .run = &NetCommand},
      {.name = "ps",
       .positionals = "[OPTIONS] SOCKET",
       .summary = "list the processes of a VM and their state",
       .details = {},
       .options = kPsOptions,
       .min_positionals = 1,
       .max_positionals = 1,
       .run = &PsCommand},
      {.name = "events",
       .positionals = "SOCKET",
       .summary = "print what happens in a VM, one JSON object a line, until it ends",
       .details = {},
       .options = kTimeoutOnly,
       .min_positionals = 1,
       .max_positionals = 1,
       .run = &EventsCommand},
      {.name = "device",
       .positionals = "[NAME --socket-path PATH [OPTION]]",
       .summary = "list the devices, or serve one to another VMM over vhost-user",
       .details = "OPTION has the form of the device's option of `crosvm run`. Without NAME the "
                  "devices and "
                  "their options are listed.",
       .options = kDeviceOptions,
       .max_positionals = 2,
       .run = &DeviceCommand},
      {.name = "doctor",
       .positionals = "[--json]",
       .summary = "check what this host lets a VM do, and say how to get the rest",
       .details = "Status 1 when no VM can run here.",
       .options = kDoctorOptions,
       .run = &DoctorCommand},
      {.name = "completion",
       .positionals = "bash|zsh|fish",
       .summary = "print a completion script for a shell",
       .details = "For bash: source <(crosvm completion bash)",
       .min_positionals = 1,
       .max_positionals = 1,
       .run = &CompletionCommand},
      {.name = "version",
       .positionals = {},
       .summary = "print the version",
       .details = {},
       .run = &VersionCommand},
      {.name = "help",
       .positionals = "[COMMAND]",
       .summary = "explain a command",
       .details = {},
       .max_positionals = 1,
       .run = &HelpCommand},
  };
  return kCommands;
}

}  // namespace

std::span<const Command> Commands() {
  return Table();
}

const Command* FindCommand(std::string_view name) {
  for (const Command& command : Commands()) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

}  // namespace crosvm::cli

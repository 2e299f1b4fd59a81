#include "vm/machine.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <map>

#include "arch/x86_64/boot.h"
#include "arch/x86_64/cpuid.h"
#include "arch/x86_64/firmware.h"
#include "base/log.h"
#include "devices/module/module.h"
#include "loader/cmdline.h"
#include "loader/kernel.h"
#include "pci/config_access.h"
#include "platform/reset_ports.h"
#include "sys/file.h"
#include "vm/device_options.h"
#include "vm/kernel_devices.h"

namespace crosvm::vm {
namespace {

constexpr int kRealTimePriority = 6;
constexpr uint64_t kMmioAlignment = 4096;

Status SetAffinity(const config::CpuAffinity& affinity, uint32_t vcpu) {
  const config::CpuSet* cpus = affinity.all.cpus.empty() ? nullptr : &affinity.all;
  for (const auto& [index, set] : affinity.per_vcpu) {
    if (index == vcpu) cpus = &set;
  }
  if (cpus == nullptr) return {};
  cpu_set_t mask;
  CPU_ZERO(&mask);
  for (const uint32_t cpu : cpus->cpus) CPU_SET(cpu, &mask);
  if (sched_setaffinity(0, sizeof(mask), &mask) != 0) {
    return FailErrno("--cpu-affinity {}", affinity.ToString());
  }
  return {};
}

Status SetRealTime(const config::CpuSet& cpus, uint32_t vcpu) {
  if (std::find(cpus.cpus.begin(), cpus.cpus.end(), vcpu) == cpus.cpus.end()) return {};
  const rlimit limit = {kRealTimePriority, kRealTimePriority};
  const sched_param parameters = {.sched_priority = kRealTimePriority};
  if (setrlimit(RLIMIT_RTPRIO, &limit) != 0 || sched_setscheduler(0, SCHED_RR, &parameters) != 0) {
    return FailErrno("--rt-cpus {} (needs CAP_SYS_NICE or an rtprio limit)", cpus.ToString());
  }
  return {};
}

// Sockets that the VM has made.
std::vector<std::string> RemovedAtTheEnd(const config::VmConfig& config) {
  std::vector<std::string> paths;
  if (!config.socket.empty()) paths.push_back(config.socket);
  if (config.vsock && !config.vsock->path.empty()) paths.push_back(config.vsock->path + "/connect");
  return paths;
}

Result<std::string> CommandLine(const config::VmConfig& config) {
  loader::Cmdline line(x86_64::kCommandLineMax);
  TRY(line.Append(x86_64::kDefaultCommandLine));
  for (const std::string& parameter : config::DeviceKernelParameters(config)) {
    TRY(line.Append(parameter));
  }
  for (const std::string& parameter : config.params) {
    TRY_CONTEXT(line.Append(parameter), "--params");
  }
  return line.text();
}

Result<x86_64::MachineInfo> DescribeMachine(const config::VmConfig& config) {
  x86_64::MachineInfo info;
  info.vcpu_count = config.cpus;
  info.rtc = !config.no_legacy;
  info.pm_timer = true;
  const x86_64::CpuTopology topology = x86_64::CpuTopology::For(config.cpus, config.no_smt);
  info.smbios.cpu_cores = topology.cores();
  info.smbios.cpu_threads = topology.count;
  for (const std::string& path : config.acpi_tables) {
    info.acpi_tables.push_back(TRY_CONTEXT(x86_64::ReadAcpiTable(path), "--acpi-table"));
  }
  if (!config.dmi.empty()) info.dmi = TRY_CONTEXT(x86_64::ReadDmi(config.dmi), "--dmi");
  return info;
}

}  // namespace

Machine::Machine(const config::VmConfig& config, event::EventLoop& loop, GuestEvents& events)
    : config_(config), loop_(loop), events_(events) {
}

Machine::~Machine() {
  // The guest stops first; then nothing touches the buses any more.
  vcpus_.reset();
  if (interrupts_) interrupts_->SetBootVcpu(nullptr);
  for (const std::shared_ptr<platform::Serial>& serial : platform_.serials) {
    serial->Finish(std::chrono::milliseconds(500));
  }
  devices_.reset();
}

Result<std::unique_ptr<Machine>> Machine::Create(
    const config::VmConfig& config, event::EventLoop& loop, GuestEvents& events,
    std::function<void(const control::Event&)> publish) {
  std::unique_ptr<Machine> self(new Machine(config, loop, events));
  self->publish_ = std::move(publish);
  self->host_ = TRY(CreateHostVm(config));
  self->interrupts_ = TRY(Interrupts::Create(loop, *self->host_.vm, config.split_irqchip,
                                             self->io_bus_, self->mmio_bus_));
  self->platform_ =
      TRY(AddPlatformDevices(config, self->host_, loop, *self->interrupts_, events, self->io_bus_));
  TRY(self->AddPci());
  TRY(self->AddDevices());
  TRY(self->LoadImages());
  TRY(self->devices_->PlugAll());
  TRY(self->CreateVcpus());
  return self;
}

Status Machine::AddPci() {
  const x86_64::MemoryLayout& layout = host_.layout;
  low_mmio_ = TRY(resources::AddressAllocator::Create(
      "32-bit MMIO", {layout.pci_low.base, layout.pci_low.size}, kMmioAlignment));
  high_mmio_ = TRY(resources::AddressAllocator::Create(
      "64-bit MMIO", {layout.pci_high.base, layout.pci_high.size}, kMmioAlignment));
  root_ = std::make_shared<pci::Root>(
      mmio_bus_, io_bus_,
      pci::Windows{.memory = {{layout.pci_low.base, layout.pci_low.size},
                              {layout.pci_high.base, layout.pci_high.size}},
                   .io = {{x86_64::kPciIoBase, x86_64::kPciIoSize}}});
  TRY(root_->Add(*pci::Address::Make(0, 0, 0), pci::MakeHostBridge()));
  TRY(io_bus_.Insert(
      std::make_shared<platform::ResetRegister>(std::make_shared<pci::Mechanism1>(root_), events_),
      x86_64::kPciConfigPort, platform::ResetRegister::kLength));
  return mmio_bus_.Insert(std::make_shared<pci::Ecam>(root_), x86_64::kEcamBase,
                          pci::kEcamBytesPerBus);
}

Status Machine::AddDevices() {
  const DeviceContext context{.loop = loop_,
                              .vm = *host_.vm,
                              .interrupts = *interrupts_,
                              .root = *root_,
                              .memory = host_.memory,
                              .low_mmio = *low_mmio_,
                              .high_mmio = *high_mmio_};
  if (!config_.sandbox.disabled) {
    const bool best_effort = config_.sandbox.jail == config::JailMode::kBestEffort;
    spawners_.emplace(device_host::Spawners::Options{.best_effort = best_effort});
    confinement_ = TRY(Confinement::Load(config_.sandbox, RemovedAtTheEnd(config_)));
  }
  const DevicePolicy policy{
      .placement = config_.sandbox.disabled ? device_host::Placement::kThread
                                            : device_host::Placement::kJailed,
      .best_effort_jail = config_.sandbox.jail == config::JailMode::kBestEffort,
      .seccomp_policy_dir = config_.sandbox.seccomp_policy_dir,
      .seccomp_log_failures = config_.sandbox.seccomp_log_failures,
      .on_crash = config_.sandbox.on_device_crash,
      .restarts_per_minute = config_.sandbox.device_restarts_per_minute,
      .spawners = spawners_ ? &*spawners_ : nullptr};
  devices_ = std::make_unique<DeviceSet>(context, policy, publish_, [this](std::string why) {
    events_.End(ExitReason::kCrash, std::move(why));
  });
  std::map<std::string, size_t> kernel_devices;
  for (const DeviceRequest& request : DevicesOf(config_)) {
    if (IsKernelDevice(request.module)) {
      const std::string label =
          fmt::format("{}[{}]", request.module, kernel_devices[request.module]++);
      devices_->AddKernel(request.module,
                          TRY(MakeKernelDevice(request.module, label, request.option, config_)));
      continue;
    }
    if (!request.socket.empty()) {
      TRY(devices_->AddForeign(request.module, request.socket, request.option));
      continue;
    }
    const devices::DeviceModule* const module = devices::FindModule(request.module);
    if (module == nullptr) {
      return Fail(ErrorKind::kUnsupported, "{} is not built into this version", request.module);
    }
    TRY(devices_->Add(*module, request.option));
  }
  return {};
}

Status Machine::LoadImages() {
  // Firmware brings its own tables, and takes the place of ours below 1 MiB.
  if (!config_.bios.empty()) {
    return x86_64::LoadFirmware(host_.firmware, host_.layout, host_.memory);
  }
  const x86_64::MachineInfo info = TRY(DescribeMachine(config_));
  const x86_64::FirmwareTables tables = TRY(x86_64::WriteTables(host_.memory, host_.layout, info));
  const sys::UniqueFd kernel_file = TRY(sys::Open(config_.kernel, O_RDONLY));
  const loader::LoadedKernel kernel =
      TRY_CONTEXT(loader::LoadKernel(kernel_file, host_.memory, x86_64::kKernelLowest), "kernel {}",
                  config_.kernel);
  sys::UniqueFd initrd;
  if (!config_.initrd.empty()) {
    initrd = TRY_CONTEXT(sys::Open(config_.initrd, O_RDONLY), "--initrd");
  }
  const std::string command_line = TRY(CommandLine(config_));
  LOG_INFO("kernel parameters: {}", command_line);
  initial_ =
      TRY(x86_64::LoadGuest({.command_line = command_line, .initrd = initrd, .tables = tables},
                            host_.layout, host_.memory, kernel));
  return {};
}

Status Machine::CreateVcpus() {
  cpuid_ = TRY(host_.vm->GetSupportedCpuid());
  std::vector<std::unique_ptr<hypervisor::Vcpu>> vcpus;
  vcpus.reserve(config_.cpus);
  for (uint32_t i = 0; i < config_.cpus; ++i) {
    vcpus.push_back(TRY_CONTEXT(host_.vm->CreateVcpu(hypervisor::VcpuId(i)), "vcpu {}", i));
  }
  interrupts_->SetBootVcpu(vcpus.front().get());
  vcpus_ = std::make_unique<VcpuThreads>(
      std::move(vcpus),
      VcpuThreadOptions{
          .io_bus = &io_bus_,
          .mmio_bus = &mmio_bus_,
          .user_irq_chip = interrupts_->user_chip(),
          .prepare =
              [this](hypervisor::Vcpu& vcpu) {
                return PrepareVcpu(static_cast<hypervisor::ArchVcpu&>(vcpu));
              },
          .confine = [this]() -> Status {
            if (!confinement_) return {};
            return confinement_->ConfineVcpuThread();
          },
          .explain_fault = [this] { return devices_->ExplainFault(); },
          .stopped =
              [this](VcpuStop stop, std::string why) {
                if (stop == VcpuStop::kTripleFault) {
                  LOG_WARN("the guest ended in a triple fault: taken for a reset");
                }
                events_.End(
                    stop == VcpuStop::kTripleFault ? ExitReason::kReset : ExitReason::kCrash,
                    std::move(why));
              },
      });
  return vcpus_->Start();
}

Status Machine::PrepareVcpu(hypervisor::ArchVcpu& vcpu) const {
  const uint32_t index = vcpu.id().value();
  TRY(SetAffinity(config_.cpu_affinity, index));
  TRY(SetRealTime(config_.rt_cpus, index));
  TRY(x86_64::ConfigureVcpu(
      vcpu, {.supported_cpuid = cpuid_,
             .cpuid = {.topology = x86_64::CpuTopology::For(config_.cpus, config_.no_smt),
                       .tsc_deadline = host_.vm->CheckCapability(KVM_CAP_TSC_DEADLINE_TIMER) > 0},
             .initial = initial_ ? &*initial_ : nullptr}));
  // Capabilities belong to a thread, as does Landlock; real-time priority above needed one.
  return confinement_ ? confinement_->DropThreadRights() : Status();
}

Status Machine::Start() {
  if (confinement_) {
    TRY(spawners_->Seal());
    TRY(confinement_->ConfineProcess());
  }
  for (const std::shared_ptr<platform::Serial>& serial : platform_.serials) serial->Start();
  vcpus_->Resume();
  return {};
}

Status Machine::Suspend() {
  if (suspended_) return {};
  vcpus_->Pause();
  suspended_ = true;
  publish_({.kind = "suspended", .device = "", .text = ""});
  return devices_->Pause();
}

Status Machine::Resume() {
  if (!suspended_) return {};
  devices_->Unpause();
  // For a guest that asked for the suspend itself: wakes it up (WAK_STS).
  platform_.acpi_pm->Wake();
  vcpus_->Resume();
  suspended_ = false;
  publish_({.kind = "resumed", .device = "", .text = ""});
  return {};
}

control::ProcessList Machine::Describe() const {
  control::ProcessList list{.vm_state = suspended_ ? "suspended" : "running",
                            .vcpus = config_.cpus,
                            .processes = devices_->Describe()};
  std::vector<control::ProcessInfo> own;
  own.push_back({.name = "vmm", .role = "vmm", .pid = getpid(), .state = "running"});
  if (confinement_) {
    own.front().layers = confinement_->layers().Names();
    own.front().allowed_calls = confinement_->allowed_calls();
  }
  for (const pid_t pid : spawners_ ? spawners_->pids() : std::vector<pid_t>()) {
    own.push_back({.name = "spawner", .role = "spawner", .pid = pid, .state = "running"});
  }
  list.processes.insert(list.processes.begin(), own.begin(), own.end());
  return list;
}

}  // namespace crosvm::vm

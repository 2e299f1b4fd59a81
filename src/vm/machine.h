// A whole virtual machine, built from its configuration and driven from the main thread.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "arch/x86_64/vcpu_state.h"
#include "base/result.h"
#include "bus/bus.h"
#include "config/vm_config.h"
#include "control/messages.h"
#include "device_host/spawners.h"
#include "event/event_loop.h"
#include "pci/root.h"
#include "resources/address_allocator.h"
#include "vm/confinement.h"
#include "vm/device_set.h"
#include "vm/guest_events.h"
#include "vm/host_vm.h"
#include "vm/interrupts.h"
#include "vm/platform_devices.h"
#include "vm/vcpu_threads.h"

namespace crosvm::vm {

class Machine {
 public:
  // `loop` and `events` outlive the machine. `publish` hears of what happens to devices.
  static Result<std::unique_ptr<Machine>> Create(
      const config::VmConfig& config, event::EventLoop& loop, GuestEvents& events,
      std::function<void(const control::Event&)> publish);
  ~Machine();

  // Lets the vCPUs run.
  Status Start();
  // Stops the vCPUs, drains the devices.
  Status Suspend();
  Status Resume();
  bool suspended() const { return suspended_; }
  void PressPowerButton() { platform_.acpi_pm->PressPowerButton(); }

  DeviceSet& devices() { return *devices_; }
  control::ProcessList Describe() const;

 private:
  Machine(const config::VmConfig& config, event::EventLoop& loop, GuestEvents& events);

  Status AddPci();
  Status AddDevices();
  Status LoadImages();
  Status CreateVcpus();
  Status PrepareVcpu(hypervisor::ArchVcpu& vcpu) const;

  const config::VmConfig& config_;
  event::EventLoop& loop_;
  GuestEvents& events_;
  HostVm host_;
  std::unique_ptr<Interrupts> interrupts_;  // outlives what has a line of it, on the buses
  bus::Bus io_bus_{"I/O ports"};
  bus::Bus mmio_bus_{"MMIO"};
  PlatformDevices platform_;
  std::optional<resources::AddressAllocator> low_mmio_;
  std::optional<resources::AddressAllocator> high_mmio_;
  std::shared_ptr<pci::Root> root_;
  std::function<void(const control::Event&)> publish_;
  std::optional<device_host::Spawners> spawners_;  // empty: no sandbox
  std::optional<Confinement> confinement_;         // empty: no sandbox
  std::unique_ptr<DeviceSet> devices_;
  std::optional<x86_64::InitialState> initial_;  // empty: firmware
  std::vector<kvm_cpuid_entry2> cpuid_;
  std::unique_ptr<VcpuThreads> vcpus_;
  bool suspended_ = false;
};

}  // namespace crosvm::vm

// The virtio devices of a VM: starts each, puts it on the PCI bus, watches it, and starts it anew
// when it dies.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/vm_config.h"
#include "control/messages.h"
#include "device_host/launch.h"
#include "event/event_loop.h"
#include "jail/symbols.h"
#include "memory/guest_memory.h"
#include "pci/interrupts.h"
#include "pci/root.h"
#include "resources/address_allocator.h"
#include "resources/pci_slot_allocator.h"
#include "vhost_user/frontend.h"
#include "virtio/pci_transport.h"
#include "vm/interrupts.h"

namespace crosvm::vm {

// What a device set builds on; all of it outlives the set.
struct DeviceContext {
  event::EventLoop& loop;
  hypervisor::ArchVm& vm;
  Interrupts& interrupts;
  pci::Root& root;
  memory::GuestMemory memory;
  resources::AddressAllocator& low_mmio;
  resources::AddressAllocator& high_mmio;
};

struct DevicePolicy {
  device_host::Placement placement = device_host::Placement::kJailed;
  bool best_effort_jail = false;
  std::string seccomp_policy_dir;
  bool seccomp_log_failures = false;
  config::OnDeviceCrash on_crash = config::OnDeviceCrash::kRestart;
  uint32_t restarts_per_minute = 3;
  // Start the processes; outlives the set. Null for Placement::kThread.
  device_host::Spawners* spawners = nullptr;
};

// On the main thread.
class DeviceSet {
 public:
  // `publish` hears of deaths and restarts; `give_up` is called when the policy is to end the VM.
  DeviceSet(const DeviceContext& context, const DevicePolicy& policy,
            std::function<void(const control::Event&)> publish,
            std::function<void(std::string why)> give_up);
  ~DeviceSet();

  // Prepares (opens what `option` names) and starts one device, which gets ready while others are
  // added. Devices get slots in the order of the calls.
  Status Add(const devices::DeviceModule& module, std::string_view option);
  // A device that a foreign process serves at a Unix socket.
  Status AddForeign(std::string_view kind, const std::string& socket_path,
                    std::string_view tag = {});

  // A device that the host's kernel serves (vm/kernel_devices.h). It has no process, and is not
  // supervised.
  void AddKernel(std::string_view kind, std::shared_ptr<virtio::Backend> backend);

  // Waits for the added devices and plugs them in. Once, before the vCPUs run.
  Status PlugAll();

  // VM suspend and resume; the vCPUs are stopped. Every device is told, whatever becomes of the
  // others; the first failure is returned.
  Status Pause();
  void Unpause();

  // Does the VMM's part of a control request (DeviceModule::before_control) and sends it to the
  // `index`th device of a module, whose answer is logged.
  Status SendControl(std::string_view module, size_t index, const devices::ControlRequest& request);

  // What shared memory may have to do with an access of the guest that failed, for a message; empty
  // when there is none. Any thread, after PlugAll().
  std::string ExplainFault() const;

  std::vector<control::ProcessInfo> Describe() const;
  control::NetList DescribeNets();
  // Of the `index`th network interface. Stays when its process is started anew.
  Status ChangeForward(size_t index, const devices::ChangeForward& change);

 private:
  struct Managed;

  Status ConnectFrontend(Managed& device);
  Status Plug(Managed& device);
  Result<device_host::PendingDevice> BeginLaunch(const Managed& device) const;
  // How a device's process ended, in its own last words where it had some. Reaps it.
  std::string DescribeEnd(Managed& device) const;
  Status WatchProcess(Managed& device);
  void OnControlReadable(Managed& device);
  void OnHeartbeat();
  // As OnFailed(), in a moment, if it is still so by now.
  void OnBackendFailed(Managed& device, std::string why);
  // The device's process is gone, hangs, or broke the protocol.
  void OnFailed(Managed& device, std::string why);
  void EndProcess(Managed& device);
  Status Restart(Managed& device);
  Managed* Find(std::string_view module, size_t index);
  // Sends a question and waits shortly for the answer: kTimedOut when the device is too busy.
  Result<devices::ControlReply> Query(Managed& device, const devices::ControlRequest& request);
  std::vector<Managed*> Nets();

  const DeviceContext context_;
  const DevicePolicy policy_;
  const std::function<void(const control::Event&)> publish_;
  const std::function<void(std::string)> give_up_;
  const Result<jail::Symbols> symbols_;  // for the last words of devices
  resources::PciSlotAllocator slots_;
  std::vector<std::unique_ptr<Managed>> devices_;
  event::Timer heartbeat_;
  std::shared_ptr<DeviceSet*> self_;  // for work posted from other threads
};

}  // namespace crosvm::vm

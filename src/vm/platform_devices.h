// The machine's fixed devices: serial ports, clock, power management, reset, debug console, panic
// notifier.
#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
#include "bus/bus.h"
#include "config/vm_config.h"
#include "event/event_loop.h"
#include "platform/acpi_pm.h"
#include "platform/serial.h"
#include "vm/guest_events.h"
#include "vm/host_vm.h"
#include "vm/interrupts.h"

namespace crosvm::vm {

struct PlatformDevices {
  std::shared_ptr<platform::AcpiPm> acpi_pm;
  std::vector<std::shared_ptr<platform::Serial>> serials;
};

// Puts them on the buses. On the main thread.
Result<PlatformDevices> AddPlatformDevices(const config::VmConfig& config, const HostVm& host,
                                           event::EventLoop& loop, Interrupts& interrupts,
                                           GuestEvents& events, bus::Bus& io_bus);

}  // namespace crosvm::vm

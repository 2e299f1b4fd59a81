// The hypervisor's VM with its memory: the part of a machine that exists before any device.
#pragma once

#include <memory>

#include "arch/x86_64/memory_plan.h"
#include "base/result.h"
#include "config/vm_config.h"
#include "hypervisor/arch.h"
#include "memory/guest_memory.h"
#include "sys/fd.h"

namespace crosvm::vm {

struct HostVm {
  memory::GuestMemory memory;  // outlives the VM, whose slots map it
  x86_64::MemoryLayout layout;
  sys::UniqueFd firmware;  // --bios
  std::unique_ptr<hypervisor::ArchVm> vm;
};

// Opens KVM, plans and makes the memory, and prepares the in-kernel hardware.
Result<HostVm> CreateHostVm(const config::VmConfig& config);

}  // namespace crosvm::vm

// The interfaces of the architecture this build runs on: what kvm/ and fake/ implement.
#pragma once

#if defined(__x86_64__)
#include "hypervisor/vm_x86_64.h"
#else
#error "this architecture has no Vm interface yet"
#endif

namespace crosvm::hypervisor {

#if defined(__x86_64__)
using ArchVm = VmX86_64;
using ArchVcpu = VcpuX86_64;
#endif

}  // namespace crosvm::hypervisor

#include "vm/host_vm.h"

#include <fcntl.h>

#include "arch/x86_64/cpuid.h"
#include "arch/x86_64/machine.h"
#include "hypervisor/kvm/kvm.h"
#include "sys/file.h"

namespace crosvm::vm {
namespace {

Status AddMemorySlots(hypervisor::Vm& vm, const memory::GuestMemory& memory) {
  for (const memory::RegionInfo& region : memory.regions()) {
    TRY(vm.AddMemory(
        {.guest = region.start, .size = region.size, .host_address = region.host_address}));
  }
  return {};
}

}  // namespace

Result<HostVm> CreateHostVm(const config::VmConfig& config) {
  HostVm host;
  const hypervisor::Kvm kvm = TRY(hypervisor::Kvm::Open(config.kvm_device));
  if (hypervisor::IsSoftwareKvm()) {
    return Fail(ErrorKind::kUnsupported, "{}", hypervisor::SoftwareKvmMessage());
  }
  host.vm = TRY(kvm.CreateVm());

  uint64_t firmware_size = 0;
  if (!config.bios.empty()) {
    host.firmware = TRY_CONTEXT(sys::Open(config.bios, O_RDONLY), "--bios");
    firmware_size = TRY_CONTEXT(sys::FileSize(host.firmware), "--bios {}", config.bios);
  }
  host.layout =
      TRY(x86_64::PlanMemory(config.mem_mib << 20, firmware_size, x86_64::PhysicalAddressBits()));
  host.memory =
      TRY_CONTEXT(memory::GuestMemory::Create(host.layout.Regions(),
                                              config.hugepages ? memory::HugePages::kTransparent
                                                               : memory::HugePages::kNone),
                  "allocating {} MiB of guest memory (--mem)", config.mem_mib);
  TRY(AddMemorySlots(*host.vm, host.memory));
  TRY(x86_64::PrepareVm(
      *host.vm, config.split_irqchip ? x86_64::IrqChipMode::kSplit : x86_64::IrqChipMode::kKernel,
      config.cpus));
  return host;
}

}  // namespace crosvm::vm

#include "arch/x86_64/machine.h"

#include "arch/x86_64/layout.h"

namespace crosvm::x86_64 {

using hypervisor::Gsi;
using hypervisor::IrqChipId;
using hypervisor::IrqChipRoute;

Status PrepareVm(hypervisor::VmX86_64& vm, IrqChipMode mode, uint32_t vcpu_count) {
  constexpr uint32_t kLastXApicId = 254;
  TRY_CONTEXT(vm.SetIdentityMapAddress(kIdentityMapBase), "setting the identity map page");
  TRY_CONTEXT(vm.SetTssAddress(kTssBase), "setting the TSS pages");
  if (mode == IrqChipMode::kSplit) {
    TRY_CONTEXT(vm.EnableSplitIrqChip(kSplitIoApicPins), "splitting the interrupt controllers");
  } else {
    TRY_CONTEXT(vm.CreateIrqChip(), "making the interrupt controllers");
    // With port 0x61, whose bits are the timer's.
    TRY_CONTEXT(vm.CreatePit(KVM_PIT_SPEAKER_DUMMY), "making the interval timer");
  }
  if (vcpu_count > kLastXApicId + 1) {
    TRY_CONTEXT(vm.EnableX2ApicIds(), "allowing {} vcpus", vcpu_count);
  }
  return {};
}

std::vector<hypervisor::IrqRoute> BaseIrqRoutes(IrqChipMode mode) {
  std::vector<hypervisor::IrqRoute> routes;
  if (mode == IrqChipMode::kSplit) return routes;
  for (uint32_t gsi = 0; gsi < kIoApicPins; ++gsi) {
    if (gsi < 8) {
      routes.push_back({.gsi = Gsi(gsi), .target = IrqChipRoute{IrqChipId::kPicPrimary, gsi}});
    } else if (gsi < 16) {
      routes.push_back(
          {.gsi = Gsi(gsi), .target = IrqChipRoute{IrqChipId::kPicSecondary, gsi - 8}});
    }
    routes.push_back({.gsi = Gsi(gsi), .target = IrqChipRoute{IrqChipId::kIoapic, gsi}});
  }
  return routes;
}

Gsi FirstMsiGsi(IrqChipMode mode) {
  return Gsi(mode == IrqChipMode::kSplit ? kSplitIoApicPins : kIoApicPins);
}

}  // namespace crosvm::x86_64

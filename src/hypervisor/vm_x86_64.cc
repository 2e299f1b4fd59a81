#include "hypervisor/vm_x86_64.h"

#include <utility>

namespace crosvm::hypervisor {

Result<std::unique_ptr<Vcpu>> VmX86_64::CreateVcpu(VcpuId id) {
  std::unique_ptr<VcpuX86_64> vcpu = TRY(CreateVcpuX86_64(id));
  return std::unique_ptr<Vcpu>(std::move(vcpu));
}

}  // namespace crosvm::hypervisor

#include "platform/irq_lines.h"

#include <utility>

#include "base/log.h"

namespace crosvm::platform {

Result<std::shared_ptr<IrqFdLine>> IrqFdLine::Create(hypervisor::Vm& vm, hypervisor::Gsi gsi) {
  sys::EventFd event = TRY(sys::EventFd::CreatePrivate());
  TRY_CONTEXT(vm.AddIrqFd(gsi, event, nullptr), "connecting interrupt {}", gsi.value());
  return std::shared_ptr<IrqFdLine>(new IrqFdLine(vm, gsi, std::move(event)));
}

IrqFdLine::~IrqFdLine() {
  if (const Status removed = vm_.RemoveIrqFd(gsi_, event_); !removed) {
    LOG_WARN("interrupt {}: {}", gsi_.value(), removed.error().ToString());
  }
}

}  // namespace crosvm::platform

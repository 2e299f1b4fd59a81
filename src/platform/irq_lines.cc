#include "platform/irq_lines.h"

#include <utility>

#include "base/log.h"

namespace crosvm::platform {

Result<std::shared_ptr<IrqFdLine>> IrqFdLine::Create(hypervisor::Vm& vm, hypervisor::Gsi gsi) {
  sys::EventFd event = TRY(sys::EventFd::Create());
  TRY_CONTEXT(vm.AddIrqFd(gsi, event, nullptr), "connecting interrupt {}", gsi.value());
  return std::shared_ptr<IrqFdLine>(new IrqFdLine(vm, gsi, std::move(event)));
}

IrqFdLine::~IrqFdLine() {
  if (const Status removed = vm_.RemoveIrqFd(gsi_, event_); !removed) {
    LOG_WARN("interrupt {}: {}", gsi_.value(), removed.error().ToString());
  }
}

Result<std::shared_ptr<LevelIrqFdLine>> LevelIrqFdLine::Create(event::EventLoop& loop,
                                                               hypervisor::Vm& vm,
                                                               hypervisor::Gsi gsi) {
  sys::EventFd event = TRY(sys::EventFd::Create());
  sys::EventFd resample = TRY(sys::EventFd::Create());
  TRY_CONTEXT(vm.AddIrqFd(gsi, event, &resample), "connecting level interrupt {}", gsi.value());
  std::shared_ptr<LevelIrqFdLine> line(
      new LevelIrqFdLine(vm, gsi, std::move(event), std::move(resample)));
  line->watch_ = TRY(loop.AddWatch(line->resample_.fd(), event::Interest::kRead,
                                   [raw = line.get()](event::Ready) { raw->OnEndOfInterrupt(); }));
  return line;
}

LevelIrqFdLine::~LevelIrqFdLine() {
  if (const Status removed = vm_.RemoveIrqFd(gsi_, event_); !removed) {
    LOG_WARN("interrupt {}: {}", gsi_.value(), removed.error().ToString());
  }
}

void LevelIrqFdLine::Raise() {
  const MutexLock lock(mutex_);
  if (std::exchange(wanted_, true)) return;
  event_.Signal();
}

void LevelIrqFdLine::Lower() {
  const MutexLock lock(mutex_);
  wanted_ = false;
}

void LevelIrqFdLine::OnEndOfInterrupt() {
  resample_.Drain();
  const MutexLock lock(mutex_);
  if (wanted_) event_.Signal();
}

}  // namespace crosvm::platform

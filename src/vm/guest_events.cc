#include "vm/guest_events.h"

#include "base/log.h"

namespace crosvm::vm {

void GuestEvents::OnSuspendRequest() {
  loop_.Post(suspend_);
}

void GuestEvents::OnPanic(platform::PanicKind kind) {
  if (kind == platform::PanicKind::kCrashLoaded) {
    LOG_WARN("the guest's kernel panicked and goes on in its crash kernel");
    return;
  }
  End(ExitReason::kPanic, "the guest's kernel panicked");
}

void GuestEvents::End(ExitReason reason, std::string why) {
  {
    MutexLock lock(mutex_);
    if (reason_) return;
    reason_ = reason;
  }
  if (reason == ExitReason::kCrash) {
    LOG_ERROR("the VM ends: {}", why);
  } else {
    LOG_INFO("the VM ends: {}", why);
  }
  loop_.Stop();
}

std::optional<ExitReason> GuestEvents::reason() const {
  MutexLock lock(mutex_);
  return reason_;
}

}  // namespace crosvm::vm

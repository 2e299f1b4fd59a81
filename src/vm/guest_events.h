// What the guest (and the vCPUs) ask of the VM, carried from vCPU threads to the main loop.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/mutex.h"
#include "event/event_loop.h"
#include "platform/vm_events.h"
#include "vm/run.h"

namespace crosvm::vm {

// Thread-safe. The first reason to end wins: a panic that is followed by a reset is a panic.
class GuestEvents final : public platform::VmEvents {
 public:
  // `loop` outlives this object and is stopped when the VM is to end. `suspend` is called on its
  // thread.
  GuestEvents(event::EventLoop& loop, std::function<void()> suspend)
      : loop_(loop), suspend_(std::move(suspend)) {}

  void OnReset() override { End(ExitReason::kReset, "the guest asked for a reset"); }
  void OnPowerOff() override { End(ExitReason::kPowerOff, "the guest powered off"); }
  void OnSuspendRequest() override;
  void OnPanic(platform::PanicKind kind) override;

  void End(ExitReason reason, std::string why);
  // Set once the loop has stopped for the VM's sake.
  std::optional<ExitReason> reason() const;

 private:
  event::EventLoop& loop_;
  const std::function<void()> suspend_;
  mutable Mutex mutex_;
  std::optional<ExitReason> reason_ CROSVM_GUARDED_BY(mutex_);
};

}  // namespace crosvm::vm

// What platform devices ask of the whole machine. Implemented in vm/.
#pragma once

#include <cstdint>

namespace crosvm::platform {

enum class PanicKind : uint8_t {
  kPanicked,     // the guest's kernel is dead
  kCrashLoaded,  // the guest goes on by itself in its crash kernel
};

// Called on vCPU threads inside an access, maybe several times: implementations note the wish and
// return at once.
class VmEvents {
 public:
  virtual ~VmEvents() = default;
  virtual void OnReset() = 0;
  virtual void OnPowerOff() = 0;
  virtual void OnSuspendRequest() = 0;
  virtual void OnPanic(PanicKind kind) = 0;
};

}  // namespace crosvm::platform

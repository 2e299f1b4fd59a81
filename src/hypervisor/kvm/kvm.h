// The host's KVM: opens /dev/kvm, checks what it can do, makes VMs. Used by vm/ and `crosvm doctor`
// on the main thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "hypervisor/arch.h"
#include "sys/fd.h"

namespace crosvm::hypervisor {

class Kvm {
 public:
  // Opens the device and checks API version and capabilities. Every error says what to do about it.
  static Result<Kvm> Open(const std::string& path = "/dev/kvm");

  // KVM_CHECK_EXTENSION; 0 when the host lacks it.
  int CheckCapability(int capability) const;

  // The VM lives on when this object is gone.
  Result<std::unique_ptr<ArchVm>> CreateVm() const;

 private:
  explicit Kvm(sys::UniqueFd fd) : fd_(std::move(fd)) {}
  Status CheckHost() const;

  sys::UniqueFd fd_;
};

// True when the host's KVM runs guests without virtualisation hardware (the kvm_pvm module on a CPU
// without VMX and SVM). Such a KVM serves tests of the interface; stock guest kernels do not boot
// on it. The caller decides what to do.
bool IsSoftwareKvm();
// What to tell the user then.
std::string SoftwareKvmMessage();

}  // namespace crosvm::hypervisor

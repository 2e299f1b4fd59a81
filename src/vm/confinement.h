// What the VMM takes from itself before a guest runs: capabilities, paths, and the system calls
// that the main loop and, more narrowly, the vCPU threads do not need. In the VMM, once a process.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/vm_config.h"
#include "jail/layers.h"
#include "sys/fd.h"

namespace crosvm::vm {

class Confinement {
 public:
  // Reads what --seccomp-policy-dir has for vm_main and vm_vcpu. The paths of `removed`, whose
  // folders exist, stay removable for the VM's end.
  static Result<Confinement> Load(const config::SandboxOptions& options,
                                  std::span<const std::string> removed);

  // On the main thread, with vCPU threads waiting: they get the main filter too.
  Status ConfineProcess();
  // On a vCPU thread: first the rights that a thread has for itself, later its filter.
  Status DropThreadRights() const;
  Status ConfineVcpuThread() const;

  // Of the main thread, for `crosvm ps`.
  jail::Layers layers() const { return layers_; }
  uint16_t allowed_calls() const;

 private:
  explicit Confinement(const config::SandboxOptions& options);
  Status Tolerate(Status status) const;

  std::vector<sock_filter> main_override_;
  std::vector<sock_filter> vcpu_override_;
  bool log_denied_calls_ = false;
  bool best_effort_ = false;
  std::vector<sys::UniqueFd> removable_below_;
  jail::Layers layers_;
};

}  // namespace crosvm::vm

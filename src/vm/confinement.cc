#include "vm/confinement.h"

#include "base/log.h"
#include "jail/confine.h"
#include "jail/confine_vmm.h"
#include "jail/filter.h"
#include "policies/vm_main.h"
#include "policies/vm_vcpu.h"

namespace crosvm::vm {
namespace {

jail::Filter FilterOf(const jail::Filter& built_in, const std::vector<sock_filter>& override) {
  if (override.empty()) return built_in;
  return {.code = override, .source = "the --seccomp-policy-dir override", .calls = 0};
}

}  // namespace

Confinement::Confinement(const config::SandboxOptions& options)
    : log_denied_calls_(options.seccomp_log_failures),
      best_effort_(options.jail == config::JailMode::kBestEffort) {
}

Result<Confinement> Confinement::Load(const config::SandboxOptions& options) {
  Confinement self(options);
  const std::string& directory = options.seccomp_policy_dir;
  if (!directory.empty()) {
    self.main_override_ = TRY(jail::LoadOverride(directory, "vm_main"));
    self.vcpu_override_ = TRY(jail::LoadOverride(directory, "vm_vcpu"));
  }
  return self;
}

Status Confinement::Tolerate(Status status) const {
  if (status.has_value() || !best_effort_) return status;
  LOG_WARN("the VMM is less confined: {}", status.error().ToString());
  return {};
}

Status Confinement::ConfineProcess() {
  Status status = jail::ConfineVmm({.filter = FilterOf(policies::kVmMain, main_override_),
                                    .keep_capabilities = {},
                                    .log_denied_calls = log_denied_calls_});
  if (status.has_value()) {
    layers_.Add(jail::Layer::kCapabilities);
    layers_.Add(jail::Layer::kNoNewPrivs);
    layers_.Add(jail::Layer::kSeccomp);
  }
  return Tolerate(std::move(status));
}

Status Confinement::DropThreadCapabilities() const {
  return Tolerate(jail::DropCapabilities({}));
}

Status Confinement::ConfineVcpuThread() const {
  return Tolerate(
      jail::ConfineVcpuThread(FilterOf(policies::kVmVcpu, vcpu_override_), log_denied_calls_));
}

uint16_t Confinement::allowed_calls() const {
  if (!layers_.Has(jail::Layer::kSeccomp) || !main_override_.empty()) return 0;
  return policies::kVmMain.calls;
}

}  // namespace crosvm::vm

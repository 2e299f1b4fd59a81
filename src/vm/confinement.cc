#include "vm/confinement.h"

#include <fcntl.h>

#include "base/log.h"
#include "chardev/terminal.h"
#include "jail/confine_vmm.h"
#include "jail/filter.h"
#include "policies/vm_main.h"
#include "policies/vm_vcpu.h"
#include "sys/file.h"

namespace crosvm::vm {
namespace {

jail::Filter FilterOf(const jail::Filter& built_in, const std::vector<sock_filter>& override) {
  if (override.empty()) return built_in;
  return {.code = override, .source = "the --seccomp-policy-dir override", .calls = 0};
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return path.substr(0, slash + 1);
}

}  // namespace

Confinement::Confinement(const config::SandboxOptions& options)
    : log_denied_calls_(options.seccomp_log_failures),
      best_effort_(options.jail == config::JailMode::kBestEffort) {
}

Result<Confinement> Confinement::Load(const config::SandboxOptions& options,
                                      std::span<const std::string> removed) {
  Confinement self(options);
  for (const std::string& path : removed) {
    Result<sys::UniqueFd> folder = sys::Open(FolderOf(path), O_PATH | O_DIRECTORY);
    // Where there is none, whoever makes the path says so.
    if (folder.has_value()) self.removable_below_.push_back(std::move(*folder));
  }
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
  const Result<jail::Layers> layers =
      jail::ConfineVmm({.filter = FilterOf(policies::kVmMain, main_override_),
                        .log_denied_calls = log_denied_calls_,
                        .before_death = &chardev::RestoreTerminalFromSignal,
                        .removable_below = removable_below_});
  if (!layers.has_value()) return Tolerate(std::unexpected(layers.error().Clone()));
  layers_ = *layers;
  return {};
}

Status Confinement::DropThreadRights() const {
  return Tolerate(jail::ConfineVmmThread(removable_below_));
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

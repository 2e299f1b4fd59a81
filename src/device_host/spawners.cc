#include "device_host/spawners.h"

#include <link.h>

#include <algorithm>
#include <span>

#include "base/log.h"

namespace crosvm::device_host {
namespace {

// A program with shared libraries finds its loader in the host's tree.
bool NeedsLoader() {
  return dl_iterate_phdr(
             [](dl_phdr_info* info, size_t, void*) {
               const std::span headers(info->dlpi_phdr, info->dlpi_phnum);
               const bool found =
                   std::any_of(headers.begin(), headers.end(),
                               [](const auto& header) { return header.p_type == PT_INTERP; });
               return found ? 1 : 2;  // not 0: only the first, which is the program
             },
             nullptr) == 1;
}

}  // namespace

Result<jail::Spawned> Spawners::Spawn(const jail::SpawnOptions& options) {
  static const bool needs_loader = NeedsLoader();
  const bool host_root = options.host_root || needs_loader;
  jail::Spawner& spawner = host_root ? host_root_ : empty_root_;
  if (!spawner.valid()) {
    if (sealed_) return Fail(ErrorKind::kPermissionDenied, "no such device was started before");
    spawner = TRY(jail::Spawner::Start(
        {.empty_root = !host_root, .best_effort = options_.best_effort, .entry = options_.entry}));
  }
  return spawner.Spawn(options);
}

Status Spawners::Seal() {
  sealed_ = true;
  for (jail::Spawner* const spawner : {&empty_root_, &host_root_}) {
    if (spawner->valid()) TRY(spawner->Seal());
  }
  return {};
}

std::string Spawners::OutOfMemory(pid_t pid) {
  jail::Spawner& any = empty_root_.valid() ? empty_root_ : host_root_;
  if (!any.valid()) return {};
  const Result<std::string> why = any.OutOfMemory(pid);
  if (why.has_value()) return *why;
  LOG_DEBUG("{}", why.error().ToString());
  return {};
}

std::vector<pid_t> Spawners::pids() const {
  std::vector<pid_t> pids;
  for (const jail::Spawner* const spawner : {&empty_root_, &host_root_}) {
    if (spawner->valid()) pids.push_back(spawner->pid());
  }
  return pids;
}

}  // namespace crosvm::device_host

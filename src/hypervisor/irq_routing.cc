#include "hypervisor/irq_routing.h"

#include <utility>

#include "base/log.h"
#include "hypervisor/vm.h"

namespace crosvm::hypervisor {

IrqRouter::IrqRouter(Vm& vm, std::vector<IrqRoute> base, Gsi first_msi_gsi, uint32_t gsi_limit)
    : vm_(vm), base_(std::move(base)), first_msi_gsi_(first_msi_gsi), gsi_limit_(gsi_limit) {
}

Status IrqRouter::Start() {
  const MutexLock lock(mutex_);
  return Commit();
}

Result<Gsi> IrqRouter::AllocateMsi() {
  const MutexLock lock(mutex_);
  // The map is sorted: the first number that it skips is the lowest free one.
  uint32_t candidate = first_msi_gsi_.value();
  for (const auto& [gsi, message] : msis_) {
    if (gsi.value() != candidate) break;
    ++candidate;
  }
  if (candidate >= gsi_limit_) {
    return Fail(ErrorKind::kBusy, "all {} interrupt routes are taken; use fewer devices or queues",
                gsi_limit_);
  }
  msis_.emplace(Gsi(candidate), MsiMessage{});
  return Gsi(candidate);
}

Status IrqRouter::SetMsi(Gsi gsi, const MsiMessage& message) {
  const MutexLock lock(mutex_);
  const auto it = msis_.find(gsi);
  if (it == msis_.end()) {
    return Fail(ErrorKind::kInvalidArgument, "GSI {} is not allocated for an MSI", gsi.value());
  }
  const MsiMessage before = std::exchange(it->second, message);
  if (before.address == message.address && before.data == message.data) return {};
  Status status = Commit();
  // The kernel keeps its old table when it refuses a new one; so do we.
  if (!status) it->second = before;
  return status;
}

void IrqRouter::FreeMsi(Gsi gsi) {
  const MutexLock lock(mutex_);
  const auto node = msis_.extract(gsi);
  if (node.empty() || node.mapped().address == 0) return;
  if (const Status status = Commit(); !status) {
    LOG_WARN("dropping the interrupt route of GSI {}: {}", gsi.value(), status.error().ToString());
  }
}

Status IrqRouter::Commit() {
  std::vector<IrqRoute> table = base_;
  table.reserve(base_.size() + msis_.size());
  for (const auto& [gsi, message] : msis_) {
    if (message.address != 0) table.push_back({.gsi = gsi, .target = message});
  }
  return vm_.SetIrqRoutes(table);
}

}  // namespace crosvm::hypervisor

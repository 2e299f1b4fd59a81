// Interrupt routing: what a GSI means. KVM takes the whole table at once, so one IrqRouter per VM
// keeps it.
#pragma once

#include <cstdint>
#include <map>
#include <variant>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "base/strong_int.h"

namespace crosvm::hypervisor {

struct GsiTag;
using Gsi = StrongInt<GsiTag, uint32_t>;

enum class IrqChipId : uint8_t { kPicPrimary, kPicSecondary, kIoapic, kGic };

struct IrqChipRoute {
  IrqChipId chip;
  uint32_t pin;
};

struct MsiMessage {
  uint64_t address = 0;
  uint32_t data = 0;
};

struct IrqRoute {
  Gsi gsi;
  std::variant<IrqChipRoute, MsiMessage> target;
};

class Vm;

// Thread-safe. Each change hands the whole table to the VM.
class IrqRouter {
 public:
  // GSIs from `first_msi_gsi` on are given out for MSIs; `base` are the fixed routes of the
  // interrupt chips.
  IrqRouter(Vm& vm, std::vector<IrqRoute> base, Gsi first_msi_gsi, uint32_t gsi_limit = 4096);

  // Installs the base table.
  Status Start();

  // A GSI for one MSI; it has no route until SetMsi(). kBusy when none is left.
  Result<Gsi> AllocateMsi();
  Status SetMsi(Gsi gsi, const MsiMessage& message);
  // Drops the route and the number.
  void FreeMsi(Gsi gsi);

 private:
  Status Commit() CROSVM_REQUIRES(mutex_);

  Vm& vm_;
  const std::vector<IrqRoute> base_;
  const Gsi first_msi_gsi_;
  const uint32_t gsi_limit_;
  Mutex mutex_;
  std::map<Gsi, MsiMessage> msis_ CROSVM_GUARDED_BY(mutex_);  // allocated; address 0: no route yet
};

}  // namespace crosvm::hypervisor

#include "jail/landlock.h"

#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace crosvm::jail {
namespace {

// Newer than Debian 12's headers, landlock(7): the rights of each version of the interface.
constexpr uint64_t kTruncate = uint64_t{1} << 14;           // version 3
constexpr uint64_t kIoctlDevice = uint64_t{1} << 15;        // version 5
constexpr uint64_t kBindTcp = 1;                            // version 4
constexpr uint64_t kConnectTcp = 2;                         // version 4
constexpr uint64_t kScopeAbstractSockets = 1;               // version 6
constexpr uint64_t kScopeSignals = 2;                       // version 6
constexpr uint64_t kFirstRights = (uint64_t{1} << 13) - 1;  // version 1

// struct landlock_ruleset_attr of version 6. A kernel takes the part that it knows.
struct RulesetAttributes {
  uint64_t filesystem = 0;
  uint64_t network = 0;
  uint64_t scoped = 0;
};

}  // namespace

int LandlockAbi() {
  const long abi =
      syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  return abi < 0 ? 0 : static_cast<int>(abi);
}

Status RestrictByLandlock(const LandlockOptions& options) {
  const int abi = LandlockAbi();
  if (abi == 0) return Fail(ErrorKind::kUnsupported, "this kernel has no Landlock");
  RulesetAttributes rules;
  size_t size = sizeof(uint64_t);
  if (options.deny_paths) {
    rules.filesystem = kFirstRights;
    if (abi >= 2) rules.filesystem |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3) rules.filesystem |= kTruncate;
    if (abi >= 5) rules.filesystem |= kIoctlDevice;
  }
  if (abi >= 4) {
    if (options.deny_network) rules.network = kBindTcp | kConnectTcp;
    size = 2 * sizeof(uint64_t);
  }
  if (abi >= 6) {
    rules.scoped = (options.deny_signals ? kScopeSignals : 0) |
                   (options.deny_network ? kScopeAbstractSockets : 0);
    size = sizeof(rules);
  }
  // An empty set of rules is an error of the kernel's.
  if (rules.filesystem == 0 && rules.network == 0 && rules.scoped == 0) {
    return Fail(ErrorKind::kUnsupported, "this kernel's Landlock has nothing for this device");
  }
  const sys::UniqueFd ruleset(
      static_cast<int>(syscall(SYS_landlock_create_ruleset, &rules, size, 0)));
  if (!ruleset.valid()) return FailErrno("making a Landlock ruleset");
  // Everything that it handles is denied, but for this.
  for (const sys::UniqueFd& folder : options.removable_below) {
    const landlock_path_beneath_attr removal = {.allowed_access = LANDLOCK_ACCESS_FS_REMOVE_FILE,
                                                .parent_fd = folder.get()};
    if (syscall(SYS_landlock_add_rule, ruleset.get(), LANDLOCK_RULE_PATH_BENEATH, &removal, 0) !=
        0) {
      return FailErrno("adding a folder to a Landlock ruleset");
    }
  }
  if (syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) {
    return FailErrno("restricting a process by Landlock");
  }
  return {};
}

}  // namespace crosvm::jail
